"""Slurm's accounting, as `sacct -a -X -P` prints it: a header and one job a line, split by `|`.

Source: the manual page of sacct (Slurm 24.05). Columns: JobID (or JobIDRaw), Submit, AllocTRES (or
ReqTRES, AllocGRES, ReqGRES); ElapsedRaw, Elapsed, or Start and End; optional Timelimit or
TimelimitRaw (minutes), Account, User. Other separators (`--delimiter`, a table saved as CSV) and
times in seconds since 1970 (`SLURM_TIME_FORMAT=%s`) are read, too. GPUs are `gres/gpu` of the
allocated resources. Tenants are the accounts, the users where there is no such column, and the time
limit is what the user believed of the run time. Steps of jobs (`101.batch`) are left out, and so
are jobs that never ran on a GPU.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...trace_file import MOST_S, Table, TraceError, first_line, read_csv
from ..build import build, counts, keep, seconds, stamps
from ..stream import JobStream

_JOB, _SUBMIT, _START, _END = ("JobID", "JobIDRaw"), "Submit", "Start", "End"
_RESOURCES = ("AllocTRES", "ReqTRES", "AllocGRES", "ReqGRES")
_ELAPSED = ("ElapsedRaw", "Elapsed")
_LIMIT = ("TimelimitRaw", "Timelimit")
_TENANT = ("Account", "User")
_SEPARATORS = ("|", ";", "\t", ",")
_GPUS = re.compile(r"(?:^|,)(?:gres/)?gpu[=:](\d{1,9})(?=,|\(|$)")
_TYPED = re.compile(r"(?:^|,)(?:gres/)?gpu:[^=:,]+[=:](\d{1,9})(?=,|\(|$)")
_CLOCK = re.compile(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)(?:\.\d+)?")
_NEVER = ("", "Unknown", "None", "N/A")


def detect(names: set[str]) -> bool:
    """Tell whether the first line of the file is the header of sacct."""
    found = {part for name in names for part in re.split(r"[|;\s]+", name)}
    return bool(_SUBMIT in found and found & set(_JOB) and found & set(_RESOURCES))


def read(path: Path) -> JobStream:
    """Read what sacct printed."""
    header = first_line(path, "the header of sacct")
    separator = next((sign for sign in _SEPARATORS if sign in header), "")
    if not separator:
        raise TraceError(
            f"{path}: columns of a fixed width cut values short: print it with sacct -P"
        )
    table = read_csv(path, separator)
    job, resources = _pick(table, _JOB) or _JOB[0], _pick(table, _RESOURCES) or _RESOURCES[0]
    table = keep(table, np.array(["." not in job for job in table.column(job)]), "steps of jobs")
    table.columns["GPUs"] = [_gpus(text) for text in table.column(resources)]
    table.columns["run time"] = _run_times(table)
    ran = (table.numbers("GPUs") > 0) & (table.numbers("run time") > 0)
    table = keep(table, ran, "that never ran on a GPU")
    owner = _pick(table, _TENANT)
    return build(
        table,
        _moments(table, _SUBMIT),
        counts(table, "GPUs"),
        seconds(table, "run time"),
        tenant=table.column(owner) if owner else None,
        estimate_s=_limits(table),
    )


def _run_times(table: Table) -> list[str | float]:
    """Return the seconds of each run, 0 where there was none."""
    elapsed = _pick(table, _ELAPSED)
    if elapsed:
        return [_seconds(text, 1.0) for text in table.column(elapsed)]
    if not {_START, _END} <= set(table.columns):
        raise TraceError(
            f"{table.path}: columns ElapsedRaw, Elapsed, or Start and End are missing; print one "
            "of them: sacct -a -X -P -o JobID,Submit,AllocTRES,ElapsedRaw,TimelimitRaw,Account"
        )
    ends = zip(table.column(_START), table.column(_END), strict=True)
    ran = np.flatnonzero([begin not in _NEVER and end not in _NEVER for begin, end in ends])
    times = np.zeros(len(table))
    if len(ran):
        rows = table.take(ran)
        both = {_END: rows.column(_START) + rows.column(_END)}  # times count from the first one
        times[ran] = np.diff(
            _moments(Table(rows.path, both, np.tile(rows.lines, 2)), _END).reshape(2, -1), axis=0
        )
    return list(times)


def _moments(table: Table, field: str) -> NDArray[np.float64]:
    """Return a column of times as seconds (N,)."""
    if all(text.strip().isdecimal() for text in table.column(field)):
        return table.seconds(field)
    return stamps(table, field)


def _pick(table: Table, names: tuple[str, ...]) -> str | None:
    return next((name for name in names if name in table.columns), None)


def _gpus(resources: str) -> int:
    """Return the GPUs of ``billing=8,cpu=64,gres/gpu=8,gres/gpu:h100=8``, or of ``gpu:h100:8``."""
    total = _GPUS.search(resources)
    return int(total[1]) if total else sum(int(found) for found in _TYPED.findall(resources))


def _seconds(text: str, unit_s: float) -> str | float:
    """Return the seconds of ``[days-][hours:]minutes:seconds`` or of a number of units."""
    clock = _CLOCK.fullmatch(text.strip())
    if clock:
        days, hours, minutes, rest = (float(part or 0) for part in clock.groups())
        return days * 86_400.0 + hours * 3600.0 + minutes * 60.0 + rest
    return float(text) * unit_s if text.strip().isdecimal() else text


def _limits(table: Table) -> NDArray[np.float64] | None:
    """Return the time limits (N,), nan where there is none (UNLIMITED, Partition_Limit)."""
    field = _pick(table, _LIMIT)
    if field is None:
        return None
    limits = [_seconds(text, 60.0) for text in table.column(field)]
    known = [
        limit if isinstance(limit, float) and 0 < limit <= MOST_S else np.nan for limit in limits
    ]
    return np.array(known)
