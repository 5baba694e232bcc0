"""Gavel's and Shockwave's traces: one job a line, split by tabs, without a header.

Sources: stanford-futuredata/gavel (Narayanan et al., OSDI 2020, MIT) and uw-mad-dash/shockwave
(Zheng et al., NSDI 2023, MIT). Gavel's lines end in steps, GPUs, priority, SLO, duration and
arrival; Shockwave's have a mode of batch adaptation behind the GPUs. Times are seconds, the
duration is that on the GPUs asked for.
"""

from __future__ import annotations

from pathlib import Path

from ...trace_file import cells, first_line, read_csv
from ..build import build, counts, seconds
from ..stream import JobStream

_START = ("job type", "command", "working directory", "steps flag", "needs data", "total steps")
_END = ("priority weight", "SLO", "duration", "arrival")
_COLUMNS = {
    len(_START) + len(middle) + len(_END): (*_START, *middle, *_END)
    for middle in (("scale factor",), ("scale factor", "mode"))
}


def detect(names: set[str]) -> bool:
    """Tell whether the first line of the file has as many tabs as a job."""
    return any(name.count("\t") + 1 in _COLUMNS for name in names)


def read(path: Path) -> JobStream:
    """Read a trace."""
    number = len(cells(path, first_line(path, "one job per line"), "\t"))
    table = read_csv(path, "\t", _COLUMNS.get(number, _COLUMNS[max(_COLUMNS)]))
    return build(
        table,
        table.seconds("arrival"),
        counts(table, "scale factor"),
        seconds(table, "duration"),
    )
