"""Shanghai AI Lab Acme (2023): trace_seren.csv, trace_kalos.csv, and a sample of Kalos.

Source: InternLM/AcmeTrace (Hu et al., NSDI 2024, CC-BY-4.0). In Kalos the column `duration` runs
from submission, queueing included, against its documentation; in Seren from the start. So run times
are end_time - start_time where the file has them, and duration_s - queue_s in the sample, which has
neither state nor user. Stamps are +08:00 in Seren and +00:00 in Kalos, one zone per file.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...trace_file import Table, read_csv
from ..build import build, counts, keep, run_times, stamps
from ..stream import JobStream

_GPUS, _SUBMIT = ("gpu_num", "submit_time")
_START, _END = ("start_time", "end_time")
_TOTAL, _QUEUE = ("duration_s", "queue_s")


def detect(names: set[str]) -> bool:
    """Tell whether these column names are of this format; Helios logs have a `vc` as well."""
    full, sample = {_GPUS, _SUBMIT, _START, _END}, {_GPUS, _SUBMIT, _TOTAL, _QUEUE}
    return (names >= full and "vc" not in names) or names >= sample


def read(path: Path) -> JobStream:
    """Read an Acme list; tenants are the users, where the file names them."""
    table = read_csv(path)
    table = keep(table, table.numbers(_GPUS) > 0, "without GPUs")
    if _START in table.columns:
        ended = np.array([bool(a and b) for a, b in zip(*_ends(table), strict=True)])
        table = keep(table, ended, "not started or not ended")
    running = _run_s(table)
    table, running = keep(table, running > 0, "with a run time of 0"), running[running > 0]
    return build(
        table,
        stamps(table, _SUBMIT),
        counts(table, _GPUS),
        run_times(table, _SUBMIT if _TOTAL not in table.columns else _TOTAL, running),
        tenant=table.columns.get("user"),
    )


def _ends(table: Table) -> tuple[list[str], list[str]]:
    return table.column(_START), table.column(_END)


def _run_s(table: Table) -> NDArray[np.float64]:
    """Return the time between start and end of every job."""
    if _START not in table.columns:
        return table.numbers(_TOTAL) - table.numbers(_QUEUE)
    start, end = _ends(table)
    both = Table(table.path, {"time": [*start, *end]}, np.concatenate([table.lines] * 2))
    times = stamps(both, "time")
    return times[len(start) :] - times[: len(start)]
