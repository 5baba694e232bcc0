"""Calls that are made once, whoever needs their results, and ahead of that in several processes."""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any, TypeVar, cast

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Call:
    """A call of a function of a module beside this one.

    Attributes:
        module, function: their names.
        args: of the function, all of them, defaults too.
    """

    module: str
    function: str
    args: tuple[Hashable, ...] = ()

    def __str__(self) -> str:
        return f"{self.module}.{self.function}({', '.join(map(repr, self.args))})"


class FailedCall(RuntimeError):
    """A call that other processes made ahead has failed; the message names it and says how."""


_results: dict[Call, Any] = {}
"""Of all calls that were made: what they returned, or their :class:`FailedCall`."""


def result(call: Call) -> Any:
    """Return what a call returns; it is made if it has not been.

    Raises:
        FailedCall: it was made ahead, and failed.
    """
    if call not in _results:
        function = getattr(importlib.import_module(call.module), call.function)
        _results[call] = inspect.unwrap(function)(*call.args)
    if isinstance(_results[call], FailedCall):
        raise _results[call]
    return _results[call]


def remembered(function: Function) -> Function:
    """Return the function with its results kept, by arguments that can be keys."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def once(*args: Hashable, **named: Hashable) -> Any:
        bound = signature.bind(*args, **named)
        bound.apply_defaults()
        return result(Call(function.__module__, function.__name__, bound.args))

    return cast(Function, once)


def make_ahead(calls: Sequence[Call], processes: int) -> list[FailedCall]:
    """Make calls in other processes, in their order, so that results are known here.

    Progress is said on stderr, with the CPU seconds of each call.

    Args:
        calls: the longest first, so that none is left alone at the end.
        processes: how many.

    Returns:
        The calls that failed.
    """
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        futures = {pool.submit(_timed, call): call for call in dict.fromkeys(calls)}
        for done, future in enumerate(as_completed(futures), start=1):
            call = futures[future]
            try:
                _results[call], cpu_s = future.result()
                said = f"{call}: {cpu_s:.1f} CPU s"
            except Exception as error:  # whatever it is, the other calls go on
                said = f"{call} failed: {type(error).__name__}: {error}"
                _results[call] = FailedCall(said)
            print(f"{done}/{len(futures)} {said}", file=sys.stderr, flush=True)
    return [found for call in futures.values() if isinstance(found := _results[call], FailedCall)]


def _timed(call: Call) -> tuple[Any, float]:
    """Return what a call returns, and the CPU seconds that it took."""
    began = time.process_time()
    return result(call), time.process_time() - began
