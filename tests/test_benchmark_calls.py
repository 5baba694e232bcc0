"""Calls of benchmarks that several processes make ahead: same results, and failures by name."""

from __future__ import annotations

import importlib
import inspect
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import calls
import technique_examples
import technique_vision
import techniques
from calls import Call, FailedCall, make_ahead, remembered, result

TIMES_CALLED: list[int] = []


@remembered
def twice(number: int, offset: int = 0) -> int:
    """Return a number that shows that the function ran in this process."""
    TIMES_CALLED.append(number)
    return 2 * number + offset


def test_a_call_is_made_once_however_it_is_written() -> None:
    assert [twice(3), twice(3, 0), twice(3, offset=0), twice(number=3)] == [6] * 4
    assert TIMES_CALLED == [3]


def test_processes_make_calls_and_name_those_that_fail(capsys) -> None:
    good, bad = Call("statistics", "fmean", ((1.0, 2.0, 6.0),)), Call("math", "sqrt", (-1.0,))
    (failed,) = make_ahead([bad, good, good], processes=1)
    assert str(failed).startswith("math.sqrt(-1.0) failed: ValueError: ")
    assert result(good) == 3.0
    with pytest.raises(FailedCall, match=r"math\.sqrt"):
        result(bad)
    said = capsys.readouterr().err.splitlines()
    assert [line.split()[0] for line in said] == ["1/2", "2/2"]


def test_what_is_made_ahead_is_what_rows_ask_for() -> None:
    """A call that no row asks for by the same name and arguments would be made for nothing."""
    parts = {call for name in techniques.MODULES for call in techniques.parts(name)}
    found = techniques.ahead(techniques.MODULES)
    assert len(set(found)) == len(found) >= len(techniques.MODULES) + len(technique_examples.CALLS)
    for call in found:
        function = getattr(importlib.import_module(call.module), call.function)
        bound = inspect.signature(function).bind(*call.args)
        bound.apply_defaults()
        assert bound.args == call.args
        assert call in parts or hasattr(function, "__wrapped__"), f"{call} is not remembered"


def test_a_failed_part_is_named_and_the_others_stay(monkeypatch) -> None:
    def rows() -> None:
        raise ValueError("no such GPU")

    monkeypatch.setattr(calls, "_results", {})
    monkeypatch.setattr(technique_vision, "rows", rows)
    found, _, failed = techniques.gathered(["technique_vision", "technique_kernels"])
    assert {row.technique for row in found} >= {"CUDA graphs"}
    assert failed == ["technique_vision.rows(): ValueError: no such GPU"]
