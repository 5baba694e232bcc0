"""From checked columns of a job list to a job stream: order of arrival, labels, rows left out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..trace_file import MOST_S, Table, TraceError, warn
from .stream import UNNAMED, JobStream

UNKNOWN = -1  # profile of a job whose trace does not say what it trains
_MAX_GPUS = 2**20
_MAX_LABELS = 2**15 - 1
_LEAST_S = 1e-3  # what runs shorter than this is no training job
_SLASHED = re.compile(r"(\d{4})/(\d{1,2})/(\d{1,2})[ T](\d{1,2}):(\d{2}(?::\d{2})?)")


def build(
    table: Table,
    arrival_s: NDArray[np.float64],
    gpus: NDArray[np.int32],
    duration_s: NDArray[np.float64],
    *,
    profile: Sequence[Any] | None = None,
    tenant: Sequence[Any] | None = None,
    priority: NDArray[np.float64] | float = 0.0,
    pool: NDArray[np.float64] | float = -1,
    estimate_s: NDArray[np.float64] | None = None,
) -> JobStream:
    """Build a stream from one value per row of ``table``, in order of arrival from 0.

    Args:
        table: the rows, for errors.
        arrival_s: (N,), in any order.
        gpus: (N,), at least 1.
        duration_s: (N,), above 0.
        profile: names; "" or None: the trace does not say, :data:`UNKNOWN`.
        tenant: labels, "" where there is none; one tenant "all" if nobody has one.
        priority: in [0, 1].
        pool: the only pool, -1: any.
        estimate_s: (N,), run times as the users stated them, nan where one did not.
    """
    order = np.argsort(arrival_s, kind="stable")
    kinds, profiles = _numbered(table.path, profile, order)
    if tenant is not None and any(tenant):
        tenant = [label or "unknown" for label in tenant]
    owners, tenants = _numbered(table.path, tenant, order)
    return JobStream(
        arrival_s=arrival_s[order] - arrival_s[order[0]],
        gpus=gpus[order].astype(np.int32),
        duration_s=duration_s[order],
        profile=kinds,
        comm_scale=np.ones(len(order), np.float32),
        priority=np.broadcast_to(priority, len(order))[order].astype(np.float32),
        tenant=np.maximum(owners, 0).astype(np.int16),
        pool=np.broadcast_to(pool, len(order))[order].astype(np.int16),
        profiles=profiles,
        tenants=tenants or UNNAMED,
        estimate_s=None if estimate_s is None else estimate_s[order],
    )


def _numbered(
    path: Path, labels: Sequence[Any] | None, order: NDArray[np.int64]
) -> tuple[NDArray[np.int16], tuple[str, ...]]:
    """Number labels in order of first use, -1 where there is none; return their names too."""
    known: dict[Any, int] = {None: UNKNOWN, "": UNKNOWN}
    if labels is None:
        return np.full(len(order), UNKNOWN, np.int16), ()
    numbers = np.array([known.setdefault(labels[i], len(known) - 2) for i in order])
    if len(known) - 2 > _MAX_LABELS:
        raise TraceError(
            f"{path}: {len(known) - 2} different labels of one kind; at most {_MAX_LABELS} "
            "tenants or profiles can be told apart: join some or remove the column"
        )
    return numbers.astype(np.int16), tuple(
        str(label) for label, number in known.items() if number >= 0
    )


def counts(table: Table, field: str) -> NDArray[np.int32]:
    """Return a column of GPU counts.

    Raises:
        TraceError: a value is not a whole number from 1 to 1,048,576.
    """
    return whole_gpus(table, field, table.numbers(field))


def whole_gpus(table: Table, field: str, values: NDArray[np.float64]) -> NDArray[np.int32]:
    """Return the GPU counts (N,) that come of a column.

    Raises:
        TraceError: a value is not a whole number from 1 to 1,048,576.
    """
    bad = (values < 1) | (values > _MAX_GPUS) | (values != np.floor(values))
    table.refuse(
        field, bad, "is no number of GPUs", f"write a whole number >= 1 and at most {_MAX_GPUS}"
    )
    return values.astype(np.int32)


def seconds(table: Table, field: str) -> NDArray[np.float64]:
    """Return a column of run times.

    Raises:
        TraceError: a value is not a finite number above 0 and at most :data:`MOST_S`.
    """
    return run_times(table, field, table.numbers(field))


def run_times(table: Table, field: str, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the run times (N,) that come of a column.

    Raises:
        TraceError: a value is not above 0 and at most :data:`MOST_S`.
    """
    bad = ~((values >= _LEAST_S) & (values <= MOST_S))
    remedy = f"write {_LEAST_S:g} to {MOST_S:g} seconds or remove the row"
    table.refuse(field, bad, "is no run time", remedy)
    return values


def stated(table: Table, field: str) -> NDArray[np.float64]:
    """Return a column of run times that users stated, nan where a value is empty.

    Raises:
        TraceError: a value is not above 0 and at most :data:`MOST_S`.
    """
    given = np.array([text.strip() != "" for text in table.column(field)])
    estimates = np.full(len(table), np.nan)
    if given.any():
        rows = np.flatnonzero(given)
        estimates[rows] = seconds(table.take(rows), field)
    return estimates


def between(table: Table, field: str, low: float, high: float) -> NDArray[np.float64]:
    """Return a column of numbers in [``low``, ``high``].

    Raises:
        TraceError: a value lies outside.
    """
    values = table.numbers(field)
    outside = (values < low) | (values > high)
    table.refuse(field, outside, "is out of range", f"write a number from {low:g} to {high:g}")
    return values


def stamps(table: Table, field: str) -> NDArray[np.float64]:
    """Return a column of wall clock times as seconds since the first row.

    A zone behind the time (``+08:00``) is left out: one file has one zone, differences stay right.

    Raises:
        TraceError: a value is not ``YYYY-MM-DD HH:MM:SS``.
    """
    remedy = "write YYYY-MM-DD HH:MM:SS, zone behind or none"
    texts = [_iso(str(text)) for text in table.column(field)]
    for row, text in enumerate(texts):
        if not ("1970" <= text[:4] < "2200" and text[4:5] == "-"):
            table.fail(row, field, table.column(field)[row], "is not a time", remedy)
    plain = Table(table.path, {field: texts}, table.lines)
    times = plain.convert(field, "datetime64[s]", "is not a time", remedy)
    return (times - times[0]) / np.timedelta64(1, "s")


def _iso(text: str) -> str:
    """Return a time as ``YYYY-MM-DD HH:MM:SS``, of one like ``2020/4/1 0:05:12``, too."""
    found = _SLASHED.fullmatch(text.strip())
    if not found:
        return text.strip()[:19]
    year, month, day, hour, rest = found.groups()
    return f"{year}-{month:0>2}-{day:0>2} {hour:0>2}:{rest}"


def keep(table: Table, wanted: NDArray[np.bool_], dropped: str) -> Table:
    """Return the ``wanted`` rows, with a warning that counts the others.

    Raises:
        TraceError: no row is left.
    """
    if wanted.all():
        return table
    if not wanted.any():
        raise TraceError(
            f"{table.path}: no job is left to replay: all {len(table)} rows are {dropped}; "
            "name a list of jobs that ran on GPUs"
        )
    warn(table.path, f"left out {(~wanted).sum()} of {len(table)} rows: {dropped}")
    return table.take(np.flatnonzero(wanted))
