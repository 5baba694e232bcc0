"""What a policy is, in words: what its name stands for, its options and their defaults."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import partial
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from . import options
from .registry import COMPOSE, class_of, composition, decides


@dataclass(frozen=True)
class Option:
    """One option of a policy.

    Attributes:
        name: as it is written into the policy's name.
        default: as it would be written; "" if it must be given.
        accepts: what a value may be.
    """

    name: str
    default: str
    accepts: str


@dataclass(frozen=True)
class Described:
    """A policy in words.

    Attributes:
        name: its own.
        decides: kinds of decisions that it takes; none if that depends on its options.
        text: what it does and where it is from: the docstring of its class.
        options: what can be written into its name.
    """

    name: str
    decides: tuple[str, ...]
    text: str
    options: tuple[Option, ...]


def described(name: str) -> Described:
    """Return a policy in words.

    Raises:
        ValueError: there is no policy of that name.
    """
    parts = composition(name)
    if parts.startswith(COMPOSE):
        text = f"Several policies, each for decisions of its own: {parts.removeprefix(COMPOSE)}"
        return Described(name, tuple(sorted(decides(name))), text, ())
    factory = class_of(name)
    made: Any = factory.func if isinstance(factory, partial) else factory
    text = inspect.cleandoc(made.__doc__ or "")
    said = hasattr(made, "decides") or "?" in name or not options.needed(factory)
    kinds = tuple(sorted(decides(name))) if said else ()
    return Described(name, kinds, text, tuple(_options(factory)))


def summary(name: str) -> str:
    """Return a policy in a line: the first of its docstring, and its options with defaults."""
    entry = described(name)
    first = entry.text.partition("\n\n")[0].replace("\n", " ")
    written = ", ".join(f"{option.name}={option.default}" for option in entry.options)
    return f"{first} [{written}]" if written else first


def _options(factory: Any) -> list[Option]:
    hints = options.hints_of(factory)
    found = []
    for parameter in inspect.signature(factory).parameters.values():
        default = "" if parameter.default is parameter.empty else _written(parameter.default)
        found.append(Option(parameter.name, default, _accepts(hints.get(parameter.name, str))))
    return found


def _written(value: object) -> str:
    """Return a value as it is written into a name."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return ",".join(f"{key}:{number:g}" for key, number in value.items())
    if isinstance(value, (tuple, list)):
        return ",".join(map(_written, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _accepts(hint: Any) -> str:
    """Return what a value of a type may be, in words."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return " or ".join(_accepts(argument) for argument in arguments)
    if origin is Literal:
        return ", ".join(map(str, arguments))
    if origin is not None:
        pairs = "Mapping" in str(origin) or origin is dict
        return "name:number, ..." if pairs else f"several of: {_accepts(arguments[0])}"
    known = {bool: "true, false", int: "a whole number", float: "a number", str: "a text"}
    return "none" if hint is type(None) else known.get(hint, getattr(hint, "__name__", str(hint)))
