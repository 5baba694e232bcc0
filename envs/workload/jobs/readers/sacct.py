"""Slurm's accounting, as `sacct -a -X -P` prints it: a header and one job a line, split by `|`.

Source: the manual page of sacct (Slurm 24.05). Columns: JobID, Submit, AllocTRES, ElapsedRaw (or
Elapsed); optional Timelimit or TimelimitRaw (minutes), Account, User. GPUs are `gres/gpu` of the
allocated resources. Tenants are the accounts, the users where there is no such column, and the time
limit is what the user believed of the run time. Steps of jobs (`101.batch`) are left out, and so
are jobs that never ran on a GPU.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...trace_file import MOST_S, Table, read_csv
from ..build import build, counts, keep, seconds, stamps
from ..stream import JobStream

_JOB, _SUBMIT, _TRES = ("JobID", "Submit", "AllocTRES")
_ELAPSED = ("ElapsedRaw", "Elapsed")
_LIMIT = ("TimelimitRaw", "Timelimit")
_TENANT = ("Account", "User")
_GPUS = re.compile(r"(?:^|,)gres/gpu=(\d{1,9})")
_TYPED = re.compile(r"(?:^|,)gres/gpu:[^=,]+=(\d{1,9})")
_CLOCK = re.compile(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)")


def detect(names: set[str]) -> bool:
    """Tell whether the first line of the file is the header of sacct."""
    return any({_JOB, _SUBMIT, _TRES} <= set(name.split("|")) for name in names)


def read(path: Path) -> JobStream:
    """Read what sacct printed."""
    table = read_csv(path, separator="|")
    table = keep(table, np.array(["." not in job for job in table.column(_JOB)]), "steps of jobs")
    elapsed = _pick(table, _ELAPSED) or _ELAPSED[0]
    table.columns["GPUs"] = [_gpus(text) for text in table.column(_TRES)]
    table.columns["run time"] = [_seconds(text, 1.0) for text in table.column(elapsed)]
    ran = (table.numbers("GPUs") > 0) & (table.numbers("run time") > 0)
    table = keep(table, ran, "that never ran on a GPU")
    owner = _pick(table, _TENANT)
    return build(
        table,
        stamps(table, _SUBMIT),
        counts(table, "GPUs"),
        seconds(table, "run time"),
        tenant=table.column(owner) if owner else None,
        estimate_s=_limits(table),
    )


def _pick(table: Table, names: tuple[str, ...]) -> str | None:
    return next((name for name in names if name in table.columns), None)


def _gpus(resources: str) -> int:
    """Return the GPUs of ``billing=8,cpu=64,gres/gpu=8,gres/gpu:h100=8``."""
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
