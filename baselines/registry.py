"""Names of policies: ``make("routing/least-requests")``.

===================================  ==============================================================
name                                 policy
===================================  ==============================================================
``routing/llm-d``                    a baseline: its family, a slash and its own name
``routing/llm-d?prefix=3&kv=0``      the same with options, see :mod:`.options`
``compose:routing/dynamo+gang/sjf``  several, each for decisions of its own
``system/kubernetes``                a composite by its name, see :mod:`.systems`
``routing/mine``                     one of an installed plug-in, see :mod:`.plug_ins`
``my.module:MyPolicy``               a class of one's own, options as above
``linear?weights=route.wait_s:-1``   a weighted sum of candidate columns, see :mod:`.linear`
``cost?weights=wait_s:1``             a weighted sum of few terms in their units, see :mod:`.cost`
``tuned.json``                       a name and options in a file, see :mod:`.saved`
===================================  ==============================================================
"""

from __future__ import annotations

import difflib
import importlib
import os
import re
import sys
from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Any

from . import gang, isolation, migration, options, plug_ins, routing, saved, topology
from .composite import Composite
from .cost import Cost
from .linear import linear
from .policy import Factory, Policy
from .scaling import policies as scaling
from .systems import SYSTEMS

_FAMILIES = {
    "routing": routing.BASELINES,
    "gang": gang.BASELINES,
    "topology": topology.BASELINES,
    "isolation": isolation.BASELINES,
    "scaling": scaling.BASELINES,
    "migration": migration.BASELINES,
}
_BASELINES = {
    f"{family}/{name}": factory
    for family, baselines in _FAMILIES.items()
    for name, factory in baselines.items()
}
_SYSTEMS = {f"system/{name}": composition for name, composition in SYSTEMS.items()}
_OWN = (*_BASELINES, *_SYSTEMS)
_UNLISTED: dict[str, Factory] = {"linear": linear, "cost": Cost}  # nothing without weights

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?"

COMPOSE = "compose:"
"""How the name of a composite begins: ``compose:routing/dynamo+gang/sjf``."""

FILE = ".json"
"""How the name of a saved policy ends."""


def names(kind: str | None = None) -> list[str]:
    """Return the registered names, of one family (``"routing"``) or of all.

    Raises:
        ValueError: there is no such family.
    """
    known = _all()
    kinds = {name.partition("/")[0] for name in known}
    if kind is not None and kind not in kinds:
        raise ValueError(f"no baselines of kind {kind!r}; kinds: {', '.join(sorted(kinds))}")
    return [name for name in known if kind is None or name.startswith(f"{kind}/")]


def _all() -> tuple[str, ...]:
    """Return all names: those of the package, then those of plug-ins, which cannot take one."""
    return (*_OWN, *(name for name in plug_ins.found() if name not in _OWN))


def names_in(text: str) -> list[str]:
    """Return the names of a list with commas; before a number or ``word:number`` one is no end."""
    return re.split(rf",(?!(?:[\w.*-]+:)*{_NUMBER}(?:[,&+]|$))", text)


def decides(name: str) -> frozenset[str]:
    """Return the kinds of decisions that a policy takes.

    Raises:
        ValueError: unknown name.
    """
    name = _SYSTEMS.get(name, name)
    if name.startswith(COMPOSE):
        return frozenset().union(*(decides(part) for part in _parts(name)))
    factory = class_of(name)
    policy: Any = factory.func if isinstance(factory, partial) else factory
    return getattr(policy, "decides", None) or make(name).decides


def make(name: str, **given: object) -> Policy:
    """Create a policy by name.

    Args:
        name: as in the table of this module.
        **given: keyword arguments of its class, for example ``temperature=0.5``; they go before
            those in the name.

    Raises:
        FileNotFoundError: no such file of a saved policy.
        ValueError: unknown name, unknown option, or an option out of range; the message says
            what is accepted.
    """
    name = _SYSTEMS.get(name, name)
    if name.startswith(COMPOSE):
        return _compose(name, given)
    if name.endswith(FILE):
        inside = saved.read(name)
        return make(inside["policy"], **{**inside["options"], **given})
    plain, texts = options.split(name)
    factory = class_of(plain)
    options.check(plain, factory, given)
    arguments = {**options.parse(plain, factory, texts), **given}
    options.check_needed(plain, factory, arguments)
    policy = factory(**arguments)
    if not isinstance(policy, Policy):
        raise ValueError(f"{plain!r} makes a {type(policy).__name__}, not a Policy")
    return policy


def class_of(name: str) -> Factory:
    """Return what makes the policy of a name: its class, or that with some options given.

    Raises:
        FileNotFoundError: no such file of a saved policy.
        ValueError: there is no policy of that name.
    """
    if name.endswith(FILE):
        name = saved.read(name)["policy"]
    plain = options.split(name)[0]
    known = _BASELINES | _UNLISTED
    if plain in known:
        return known[plain]
    module, colon, member = plug_ins.found().get(plain, plain).partition(":")
    if colon:
        return _imported(plain, module, member)
    close = difflib.get_close_matches(plain, {*known, *_all()}, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise ValueError(f"no baseline {plain!r}; {hint}Registered: {', '.join(_all())}")


def composition(name: str) -> str:
    """Return the name of a composite that a system's name stands for; any other name as it is."""
    return _SYSTEMS.get(name, name)


def _imported(name: str, module: str, member: str) -> Factory:
    """Return a class of the user's own; what goes wrong inside its module is raised as it is.

    It may lie in the current folder, which an installed command does not look into by itself. That
    folder comes last, so that nothing in it hides an installed module.
    """
    if not {"", os.getcwd()} & set(sys.path):
        sys.path.append(os.getcwd())
    try:
        found = getattr(importlib.import_module(module), member)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise ValueError(
            f"policy {name!r}: no module {error.name!r} to import, "
            "neither installed nor in this folder"
        ) from None
    except AttributeError:
        raise ValueError(f"policy {name!r}: module {module!r} has no {member!r}") from None
    if not callable(found):
        raise ValueError(f"policy {name!r}: {member!r} is no class and no function")
    return found


def sources(name: str) -> list[Path]:
    """Return the files that a policy comes from, but for those of its family in this package.

    Of a saved policy that is its file. Of a class of one's own it is all Python files of its
    package, or of the folder of its module, since it may import any of them.

    Raises:
        FileNotFoundError: no such file of a saved policy.
        ValueError: there is no policy of that name.
    """
    name = composition(name)
    if name.startswith(COMPOSE):
        return [path for part in _parts(name) for path in sources(part)]
    if name.endswith(FILE):
        return [Path(name), *sources(saved.read(name)["policy"])]
    plain = options.split(name)[0]
    class_of(plain)  # now its module is loaded
    module, colon, _ = plug_ins.found().get(plain, plain).partition(":")
    if plain in _BASELINES or not colon:
        return []
    top = sys.modules[module.partition(".")[0]]
    if hasattr(top, "__path__"):
        return sorted(path for folder in top.__path__ for path in Path(folder).rglob("*.py"))
    return sorted(Path(top.__file__).parent.glob("*.py")) if top.__file__ else []


def _parts(name: str) -> list[str]:
    return re.split(r"\+(?!\d)", name.removeprefix(COMPOSE))  # 1e+3 is a number


def _compose(name: str, given: Collection[str]) -> Composite:
    if given:
        raise ValueError(
            f"{name!r} takes no options; write those of its parts into the name, part?option=value"
        )
    parts: dict[str, Policy] = {}
    for part in _parts(name):
        for kind in decides(part):
            if kind in parts:
                raise ValueError(f"{name!r}: two of its baselines decide {kind}; name one")
            parts[kind] = make(part)
    return Composite(**parts)
