"""Arrays of records, and how they are made and filled."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .compile import DISABLE_JIT
from .pages import zeros

IDLE, STEP, START, GO_ON = 0, 1, 2, 3  # what an environment of a batch is to do
AVERAGED_ARRIVALS = 32.0  # of the moving averages of what arrives
NOTHING, ROUTE, PLACE, SCALE, MIGRATE = -1, 0, 1, 2, 3  # the decision that is due
IN_FULL, MAX_TIME, MAX_DECISIONS, STALLED = range(4)  # how an episode ends, see rules.TRUNCATED

CLOCK = np.dtype(  # one record per environment
    [
        ("now_s", "f8"),
        ("due", "i4"),  # the decision for which the world has stopped
        ("done", "i4"),
        ("decisions", "i8"),
        ("invalid_actions", "i8"),
        ("reward_value", "f8"),  # weighted terms at the last decision
        ("limit_s", "f8"),  # when the episode is truncated, inf: never
        ("most_decisions", "i8"),  # that the policy takes
        ("truncated", "i4"),  # how it ends: IN_FULL, or why not
        ("paused", "i4"),  # 1: stopped between two decisions, to look up
        ("surveyed", "i4"),  # 1: candidates show gangs, as of a survey since the last decision
        ("idle_moments", "i8"),  # since a gang ran while some are pending and none is to come
    ]
)


def records(shape: int | tuple[int, ...], dtype: np.dtype) -> NDArray[np.void]:
    """Return zeroed records; without the compiler, of a kind that Python code can read as such."""
    array = zeros(shape, dtype)
    return array.view(np.recarray) if DISABLE_JIT else array


def fill(rows: NDArray[np.void], record: NDArray[np.void]) -> None:
    """Copy ``record`` into every row, as bytes: 18 times as fast as field by field."""
    raw = f"V{record.dtype.itemsize}"
    rows.view(raw)[...] = record.view(raw)


def record_of(dtype: np.dtype, **start: float) -> NDArray[np.void]:
    """Return one record of zeros but for the fields in ``start``."""
    record = np.zeros((), dtype)
    for field, value in start.items():
        record[field] = value
    return record


def fill_in(rows: NDArray[np.void], **values: Any) -> None:
    """Set every field of some records by name.

    Raises:
        AssertionError: a field is left out, or there is none of that name.
    """
    assert set(values) == set(rows.dtype.names or ()), set(values) ^ set(rows.dtype.names or ())
    for name, value in values.items():
        rows[name] = value


def records_of(dtype: np.dtype, **values: Any) -> NDArray[np.void]:
    """Return one record, shape (1,), with every field set by name."""
    record = records(1, dtype)
    fill_in(record, **values)
    return record
