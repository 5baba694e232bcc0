"""Standard Workload Format 2: 18 numbers a line, `;` in front of comments, -1 for unknown.

Source: the Parallel Workloads Archive (Chapin et al., JSSPP 1999; Feitelson et al., 2014). A
processor becomes a GPU: the allocated ones, or the requested ones where those are unknown. Left out
are jobs that never ran, and lines with status 2 to 4, which repeat parts of a job on another line.
Tenants are the users, as far as they are known, and the requested time (field 9) is what they
believed of the run time.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...trace_file import MOST_S, Table, TraceError, shown, text_lines, warn
from ..build import build, keep, seconds, whole_gpus
from ..stream import JobStream

_NAMES = (
    "job number,submit time,wait time,run time,allocated processors,average CPU time,used memory,"
    "requested processors,requested time,requested memory,status,user,group,executable,queue,"
    "partition,preceding job,think time"
).split(",")
_ALLOCATED, _RUN = "allocated processors", "run time"
_PARTS = (2, 3, 4)


def detect(names: set[str]) -> bool:
    """Tell by the first line, which is a comment or 18 numbers."""
    first = next(iter(names), "")
    return any(name.startswith(";") for name in names) or (
        len(names) == 1 and len(first.split()) == len(_NAMES)
    )


def read(path: Path) -> JobStream:
    """Read an SWF log."""
    table = _table(path)
    gpus = table.numbers(_ALLOCATED)
    gpus = np.where(gpus > 0, gpus, table.numbers("requested processors"))
    ran = (table.numbers(_RUN) > 0) & (gpus > 0) & ~np.isin(table.numbers("status"), _PARTS)
    jobs, gpus = keep(table, ran, "that never ran, or parts of others"), gpus[ran]
    parts = np.count_nonzero(gpus != np.ceil(gpus))
    if parts:
        warn(path, f"{parts} jobs hold parts of processors; each is rounded up to whole GPUs")
    limit_s = jobs.numbers("requested time")
    return build(
        jobs,
        jobs.seconds("submit time"),
        whole_gpus(jobs, _ALLOCATED, np.ceil(gpus)),
        seconds(jobs, _RUN),
        tenant=["" if user == "-1" else user for user in jobs.column("user")],
        estimate_s=np.where((limit_s > 0) & (limit_s <= MOST_S), limit_s, np.nan),
    )


def _table(path: Path) -> Table:
    rows, lines = [], []
    for number, text in enumerate(text_lines(path), start=1):
        fields = text.split()
        if not fields or fields[0].startswith(";"):
            continue
        if len(fields) != len(_NAMES):
            raise TraceError(
                f"{path}, line {number}: {len(fields)} values, but SWF has {len(_NAMES)} "
                f"({shown(text.strip())}); correct or remove the line"
            )
        rows.append(fields)
        lines.append(number)
    if not rows:
        raise TraceError(f"{path}: has no jobs; expected {len(_NAMES)} numbers per line")
    columns = dict(zip(_NAMES, map(list, zip(*rows, strict=True)), strict=True))
    return Table(path, columns, np.array(lines))
