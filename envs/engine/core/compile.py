"""The decorators of compiled functions: helpers, and entries that Python calls."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numba
from numba import njit

from .pieces import Piece
from .store import Store

config: Any = numba.config  # its settings are made at run time

# error_model: a division by zero gives inf or nan instead of an exception; the checks cost
OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
DISABLE_JIT = bool(config.DISABLE_JIT)


def kernel(function: Callable[..., Any] | None = None, *, inline: bool = True) -> Any:
    """Compile a function that other compiled functions call, without the GIL.

    Small functions on the hot path are inlined into their callers, which takes their arguments
    out of memory; ``inline=False`` keeps large or rarely called ones apart, to compile them once.
    What is kept on disk are the entries and units that they end up in.
    """
    if function is None:
        return functools.partial(kernel, inline=inline)
    if DISABLE_JIT:
        return function
    return Piece(function, {**OPTIONS, "forceinline": inline})


def entry(function: Callable[..., Any]) -> Any:
    """Compile a function that Python calls, and keep it on disk; see :mod:`.store`."""
    dispatcher = njit(**OPTIONS)(function)
    if not DISABLE_JIT:
        dispatcher._cache = Store(function)
    return dispatcher


def is_warm(function: Any) -> bool:
    """Tell whether an entry is compiled in this process or on disk."""
    return DISABLE_JIT or bool(function.signatures) or function._cache.has_some()
