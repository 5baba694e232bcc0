"""Units: large functions that are compiled once, alone, and called by address.

The compiler optimises every callee again inside each of its callers, so compile time grows with
the depth of calls. A unit ends that: its callers see an address and nothing else. Each has its own
key on disk (:mod:`.store`), so an edit recompiles the units that it concerns, and units compile in
any order and in several processes.

    @unit
    def enter(w, e, j, now_s): ...

makes ``enter`` a small function that calls the real one through ``w.units``. Arguments after the
bundle ``w`` are integers, at most four, and then perhaps a float, whose name ends with ``_s``. The
result is nothing, or as annotated an ``int`` or a ``bool``.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.registry import cpu_target
from numba.extending import intrinsic
from numpy.typing import NDArray

from .brisk import brisk
from .bundle import WORD, Bundle
from .compile import DISABLE_JIT, OPTIONS, kernel
from .store import Store

OF_GANGS = (
    *("enter", "leave", "settle", "move_on", "recall"),
    *("start_gang", "finish", "preempt", "choose", "gangs_happen"),
    *("begin_gangs", "survey", "place", "carry_out", "place_is_due", "take_place", "see_place"),
)
"""What worlds with gangs need."""

OF_SERVING = (
    *("advance_replica", "take_route", "next_route", "drain", "see_route"),
    "fail_session",
)
"""What worlds with requests need."""

OF_SERVICES = ("services_happen", "take_scale", "see_scale")
"""What worlds need whose replicas stand on a cluster."""

OF_MIGRATION = ("let_leave", "moves_happen", "take_migrate", "see_migrate")
"""What worlds need whose running requests may move between replicas."""

NAMES = (*OF_GANGS, *OF_SERVING, *OF_SERVICES, *OF_MIGRATION)
"""All units, in the order of their addresses in ``w.units``."""

UNITS = np.dtype([(name, "i8") for name in NAMES])
"""Addresses: one record for the whole world."""

SIGNATURE = types.int64(*[types.int64] * 5, types.float64)
"""Of every unit: table, up to four integers (the environment first), a float."""

_FUNCTIONS: dict[str, Callable[..., Any]] = {}
_COMPILED: dict[str, Any] = {}  # by name; they have to stay alive


def unit(function: Callable[..., Any]) -> Any:
    """Make a function a unit; see the module."""
    name = function.__name__
    assert name in NAMES and _FUNCTIONS.get(name, function).__module__ == function.__module__
    _FUNCTIONS[name] = function
    if DISABLE_JIT:
        return function
    arguments = list(inspect.signature(function).parameters)[1:]
    integers = [f"int({name})" for name in arguments if not name.endswith("_s")]
    floats = [name for name in arguments if name.endswith("_s")] or ["0.0"]
    assert len(integers) <= 4 and len(floats) == 1, name
    padded = [*integers, *["0"] * (4 - len(integers)), *floats]
    call_ = f"call(w.units[0].{name}, address_of(w), {', '.join(padded)})"
    result = {"bool": f"return {call_} != 0", "int": f"return {call_}"}
    body = result.get(function.__annotations__.get("return", ""), call_)
    return kernel(_written(f"def {name}(w, {', '.join(arguments)}):\n    {body}\n", name, function))


def _written(source: str, name: str, like: Callable[..., Any], **uses: Any) -> Any:
    """Return the function that a source text defines, in the place of another one."""
    space = {"call": call, "address_of": address_of, "__name__": like.__module__, **uses}
    exec(compile(source, f"<unit {like.__name__}>", "exec"), space)
    function: Any = space[name]
    function.__doc__ = like.__doc__
    return function


def _entrance(name: str, bundle: Bundle) -> Any:
    """Return a function of :data:`SIGNATURE` that opens the bundle and runs the unit."""
    function = _FUNCTIONS[name]
    arguments = list(inspect.signature(function).parameters)[1:]
    integers = [argument for argument in arguments if not argument.endswith("_s")]
    floats = [argument for argument in arguments if argument.endswith("_s")]
    given = [*integers, *(f"_{i}" for i in range(4 - len(integers))), *(floats or ["_s"])]
    call_ = f"run(at(address), {', '.join(arguments)})"
    body = f"return int({call_})" if "return" in function.__annotations__ else f"{call_}; return 0"
    source = f"def {name}(address, {', '.join(given)}):\n    {body}\n"
    return _written(source, name, function, run=kernel(function), at=bundle.at)


@functools.cache
def _c_function(name: str, bundle: Bundle) -> Any:
    """Return the unit as a C function, the same each time; who needs it compiles it.

    Its key on disk takes milliseconds to find, and is asked for by :func:`missing` first.
    """
    from numba.core.ccallback import CFunc

    entrance = _entrance(name, bundle)
    options = {"error_model": OPTIONS["error_model"]}
    function: Any = CFunc(entrance, (SIGNATURE.args, SIGNATURE.return_type), {}, options)
    function._cache = Store(entrance)
    return function


def missing(names: Iterable[str], bundle: Bundle) -> list[str]:
    """Return those units that are neither in this process nor, sound, on disk."""
    if DISABLE_JIT:
        return []  # there is nothing to compile
    context = cpu_target.target_context
    return [
        name
        for name in names
        if name not in _COMPILED and not _c_function(name, bundle)._cache.has(SIGNATURE, context)
    ]


def addresses(names: Iterable[str], bundle: Bundle) -> NDArray[np.void]:
    """Return UNITS (1,) with the addresses of some units, compiled or loaded; 0 for the others."""
    record = np.zeros(1, UNITS)
    for name in () if DISABLE_JIT else names:
        if name not in _COMPILED:
            function = _c_function(name, bundle)
            with brisk():
                function.compile()
            _COMPILED[name] = function
        record[name] = _COMPILED[name].address
    return record


def _address(typing_context: Any, bundle: Any) -> Any:
    """Return the address of a bundle's table."""
    return types.int64(bundle), lambda context, builder, signature, args: args[0]


def _call(
    typing_context: Any, function: Any, address: Any, e: Any, i: Any, k: Any, m: Any, t: Any
) -> Any:
    """Call a compiled function of :data:`SIGNATURE` by its address."""
    signature = types.int64(*[types.int64] * 6, types.float64)

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(WORD, [WORD] * 5 + [ir.DoubleType()])
        return builder.call(builder.inttoptr(args[0], kind.as_pointer()), args[1:])

    return signature, build


address_of: Any = intrinsic(_address)
call: Any = intrinsic(_call)
