"""Compiling with less work for Python: no search for garbage, and no question asked twice.

Whenever code adds two numbers or indexes an array, numba asks dozens of rules, one after the other,
which of them knows the types. The answer depends on the types alone, so it is remembered.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from typing import Any

from numba import types
from numba.core.registry import cpu_target

PLAIN = (types.Number, types.Boolean, types.Literal, types.Array, types.Record, types.BaseTuple)
"""Types of which an answer depends on nothing else; functions, say, get versions in time."""

_answers: dict[Any, tuple[Any, Any]] = {}  # by function and types: the function and its signature


@contextlib.contextmanager
def brisk() -> Iterator[None]:
    """Compile what is compiled inside with less work; the code that is made is the same."""
    context: Any = cpu_target.typing_context
    if "resolve_function_type" in vars(context):  # inside already
        yield
        return
    general = context.resolve_function_type

    def remembered(function: Any, args: Any, kws: Any) -> Any:
        if kws or not all(isinstance(kind, PLAIN) for kind in args):
            return general(function, args, kws)
        kind = function if isinstance(function, types.Type) else context._lookup_global(function)
        if not isinstance(kind, types.Function):
            return general(function, args, kws)
        key = id(kind), args  # as numba makes another one when it learns more rules
        if key not in _answers:
            _answers[key] = kind, general(function, args, kws)
        return _answers[key][1]

    was_enabled = gc.isenabled()
    gc.disable()  # the compiler makes little garbage, and looking for it takes a tenth
    context.resolve_function_type = remembered
    try:
        yield
    finally:
        del context.resolve_function_type
        if was_enabled:
            gc.enable()
