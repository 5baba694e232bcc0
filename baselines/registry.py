"""Names of the baselines: ``make("routing/least-requests")``.

The folders of the families hold their names; a name is the family's, a slash and its own.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Collection
from functools import partial
from typing import Any

from . import gang, isolation, routing, topology
from .composite import Composite
from .policy import Factory, Policy

_FAMILIES = {
    "routing": routing.BASELINES,
    "gang": gang.BASELINES,
    "topology": topology.BASELINES,
    "isolation": isolation.BASELINES,
}
_BASELINES = {
    f"{family}/{name}": factory
    for family, baselines in _FAMILIES.items()
    for name, factory in baselines.items()
}

COMPOSE = "compose:"
"""How the name of a composite begins: ``compose:routing/dynamo+gang/sjf``."""


def names(kind: str | None = None) -> list[str]:
    """Return the registered names, of one family (``"routing"``) or of all.

    Raises:
        ValueError: there is no such family.
    """
    if kind is not None and kind not in _FAMILIES:
        known = ", ".join(sorted(_FAMILIES))
        raise ValueError(f"no baselines of kind {kind!r}; kinds: {known}")
    return [name for name in _BASELINES if kind is None or name.startswith(f"{kind}/")]


def decides(name: str) -> frozenset[str]:
    """Return the kinds of decisions that a baseline takes, without creating it.

    Raises:
        ValueError: unknown name.
    """
    if name.startswith(COMPOSE):
        return frozenset().union(*(decides(part) for part in _parts(name)))
    factory = _factory(name)
    policy: Any = factory.func if isinstance(factory, partial) else factory
    return policy.decides


def make(name: str, **options: object) -> Policy:
    """Create a baseline by name.

    Args:
        name: one of :func:`names`, or several of them, each for decisions of its own:
            ``compose:routing/dynamo+gang/sjf``.
        **options: keyword arguments of its class, for example ``temperature=0.5``.

    Raises:
        ValueError: unknown name, unknown option, or an option out of range; the message says
            what is accepted.
    """
    if name.startswith(COMPOSE):
        return _compose(name, options)
    factory = _factory(name)
    accepted = list(inspect.signature(factory).parameters)
    for option in options:
        if option not in accepted:
            raise ValueError(
                f"baseline {name!r} has no option {option!r}; "
                f"it accepts {', '.join(accepted) if accepted else 'none'}"
            )
    return factory(**options)


def _factory(name: str) -> Factory:
    if name not in _BASELINES:
        close = difflib.get_close_matches(name, _BASELINES, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise ValueError(f"no baseline {name!r}; {hint}Registered: {', '.join(_BASELINES)}")
    return _BASELINES[name]


def _parts(name: str) -> list[str]:
    return name.removeprefix(COMPOSE).split("+")


def _compose(name: str, options: Collection[str]) -> Composite:
    if options:
        raise ValueError(f"{name!r} takes no options; give Composite policies with their own")
    parts: dict[str, Policy] = {}
    for part in _parts(name):
        for kind in decides(part):
            if kind in parts:
                raise ValueError(f"{name!r}: two of its baselines decide {kind}; name one")
            parts[kind] = make(part)
    return Composite(**parts)
