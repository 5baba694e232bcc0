"""Compiling with less work for Python: no search for garbage, and no question asked twice.

Numba answers the same questions thousands of times: which of dozens of rules knows the types of an
addition, how large a record is, which of its own modules are loaded. The answers depend on what is
asked alone, so inside :func:`brisk` they are remembered; so is who listens to numba's events.
"""

from __future__ import annotations

import contextlib
import functools
import gc
from collections.abc import Callable, Iterator
from typing import Any

from numba import types
from numba.core import base, event, ir
from numba.core.cpu import CPUContext
from numba.core.types.functions import BaseFunction

PLAIN = (types.Number, types.Boolean, types.Literal, types.Array, types.Record, types.BaseTuple)
"""Types of which an answer depends on nothing else; functions, say, get versions in time."""


def _call_types(general: Callable[..., Any]) -> Callable[..., Any]:
    """Remember which rule a function follows for some types, or that none does."""
    answers: dict[Any, Any] = {}  # by function, as numba makes another one with more rules

    def get_call_type(function: Any, context: Any, args: Any, kws: Any) -> Any:
        if kws or not all(isinstance(kind, PLAIN) for kind in args):
            return general(function, context, args, kws)
        key = id(function), args
        if key not in answers:
            answers[key] = function, general(function, context, args, kws)
        return answers[key][1]

    return get_call_type


def _sizes(general: Callable[..., Any]) -> Callable[..., Any]:
    """Remember how many bytes a type takes; numba has LLVM parse a module to find out."""
    answers: dict[str, int] = {}

    def get_abi_sizeof(context: Any, kind: Any) -> int:
        key = str(kind)
        if key not in answers:
            answers[key] = general(context, kind)
        return answers[key]

    return get_abi_sizeof


def _loaded_once(general: Callable[..., Any]) -> Callable[..., Any]:
    """Import numba's modules once, not for each function and each array that is looked at."""
    done: list[Any] = []  # what a context knows, which its copies share

    def load_additional_registries(context: Any) -> None:
        known = context._registries
        if not any(known is one for one in done):
            general(context)
            done.append(known)
        for registry in list(known):  # an intrinsic function is new in one of them
            context.install_registry(registry)

    return load_additional_registries


def _takes_loc(general: Callable[..., Any]) -> Callable[..., Any]:
    """Remember of the code of a function whether it has an argument ``loc``."""
    answers: dict[Any, bool] = {}

    def has_loc(function: Any) -> bool:
        code = getattr(function, "__code__", None)
        if code is None or hasattr(function, "__wrapped__"):
            return general(function)
        if code not in answers:
            answers[code] = general(function)
        return answers[code]

    return has_loc


def _variables(general: Callable[..., Any]) -> Callable[..., Any]:
    """Look for variables neither in places of the source nor in names and numbers."""
    without = {ir.Loc, str, int, float, bool, type(None)}

    def list_variables(statement: Any, value: Any) -> Any:
        kind = type(value)
        if kind in without:
            return []
        if kind is ir.Var:
            return [value]
        if kind is dict:
            return [one for part in value.values() for one in list_variables(statement, part)]
        return general(statement, value)

    return list_variables


def _unless_heard(general: Callable[..., Any]) -> Callable[..., Any]:
    """Tell of no event if all who listen are numba's clocks, one for each function in work."""
    heard = event._registered.values()
    if any(type(one) is not event.TimingListener for each in heard for one in each):
        return general
    return lambda _: None


CHANGES: tuple[tuple[Any, str, Callable[..., Any]], ...] = (
    (BaseFunction, "get_call_type", _call_types),
    (types.Record, "__repr__", functools.cache),
    (base.BaseContext, "get_abi_sizeof", _sizes),
    (base, "_has_loc", _takes_loc),
    (ir.Inst, "_rec_list_vars", _variables),
    (CPUContext, "load_additional_registries", _loaded_once),
)
"""Where, what, and what to make of it, once; a numba that lacks it goes without."""

_FASTER = [
    (owner, name, make(getattr(owner, name)))
    for owner, name, make in CHANGES
    if hasattr(owner, name)
]
_inside = False


@contextlib.contextmanager
def _put(owner: Any, name: str, new: Any) -> Iterator[None]:
    """Put something in the place of an attribute for a while."""
    old = getattr(owner, name)
    setattr(owner, name, new)
    try:
        yield
    finally:
        setattr(owner, name, old)


@contextlib.contextmanager
def brisk() -> Iterator[None]:
    """Compile what is compiled inside with less work; the code that is made is the same."""
    global _inside
    if _inside:
        yield
        return
    was_enabled = gc.isenabled()
    gc.disable()  # the compiler makes little garbage, and looking for it takes a tenth
    _inside = True
    try:
        with contextlib.ExitStack() as stack:
            for change in _FASTER:
                stack.enter_context(_put(*change))
            stack.enter_context(_put(event, "broadcast", _unless_heard(event.broadcast)))
            yield
    finally:
        _inside = False
        if was_enabled:
            gc.enable()
