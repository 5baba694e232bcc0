"""From checked columns of a job list to a job stream: order of arrival, labels, rows left out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..trace_file import Table, TraceError, warn
from .stream import JobStream

UNKNOWN = -1  # profile of a job whose trace does not say what it trains
_MAX_GPUS = 2**20
_MAX_LABELS = 2**15 - 1


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

    Raises:
        TraceError: no rows are left.
    """
    if not len(table):
        raise TraceError(f"{table.path}: no job with GPUs and a run time is left to replay")
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
        tenants=tenants or ("all",),
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
    values = table.numbers(field)
    bad = np.flatnonzero((values < 1) | (values > _MAX_GPUS) | (values != np.floor(values)))
    if len(bad):
        _fail(table, field, bad, "is no number of GPUs", "write a whole number >= 1")
    return values.astype(np.int32)


def seconds(table: Table, field: str) -> NDArray[np.float64]:
    """Return a column of run times.

    Raises:
        TraceError: a value is not a finite number above 0.
    """
    values = table.numbers(field)
    bad = np.flatnonzero(values <= 0)
    if len(bad):
        _fail(table, field, bad, "is no run time", "write seconds above 0 or remove the row")
    return values


def between(table: Table, field: str, low: float, high: float) -> NDArray[np.float64]:
    """Return a column of numbers in [``low``, ``high``].

    Raises:
        TraceError: a value lies outside.
    """
    values = table.numbers(field)
    bad = np.flatnonzero((values < low) | (values > high))
    if len(bad):
        _fail(table, field, bad, "is out of range", f"write a number from {low:g} to {high:g}")
    return values


def stamps(table: Table, field: str) -> NDArray[np.float64]:
    """Return a column of wall clock times as seconds since the first row.

    A zone behind the time (``+08:00``) is left out: one file has one zone, differences stay right.

    Raises:
        TraceError: a value is not ``YYYY-MM-DD HH:MM:SS``.
    """
    texts = [text.strip()[:19] for text in table.column(field)]
    plain = Table(table.path, {field: texts}, table.lines)
    times = plain.convert(
        field, "datetime64[s]", "is not a time", "write YYYY-MM-DD HH:MM:SS, zone behind or none"
    )
    return (times - times[0]) / np.timedelta64(1, "s")


def keep(table: Table, wanted: NDArray[np.bool_], dropped: str) -> Table:
    """Return the ``wanted`` rows, with a warning that counts the others."""
    if wanted.all():
        return table
    warn(table.path, f"left out {(~wanted).sum()} of {len(table)} rows: {dropped}")
    return table.take(np.flatnonzero(wanted))


def _fail(table: Table, field: str, rows: NDArray[np.int64], problem: str, remedy: str) -> None:
    row = int(rows[0])
    table.fail(row, field, table.column(field)[row], problem, remedy)
