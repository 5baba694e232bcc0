"""Readers of public job lists: one file in, one :class:`JobStream` out.

Each format lives in a module with ``detect(names)``, which tells by the values of a file's first
line, split at commas, whether it is of that format, and ``read(path)``. Files may be
gzip-compressed, rows in any order. Jobs without GPUs or without a run time are left out, with a
warning that counts them. No public trace says what its jobs train: their profile is -1 until
:mod:`..source` gives them one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

from ...trace_file import TraceError, brief, cells, first_line, mapped
from ..stream import JobStream
from . import (
    acme,
    elasticflow,
    helios,
    openb,
    pai,
    philly,
    philly_gavel,
    philly_log,
    plain,
    sacct,
    shockwave,
    spot,
    swf,
)

__all__ = ["FORMATS", "TraceError", "detect", "read"]

FORMATS: dict[str, ModuleType] = {
    "philly": philly,
    "philly-gavel": philly_gavel,
    "philly-log": philly_log,
    "sacct": sacct,
    "shockwave": shockwave,
    "elasticflow": elasticflow,
    "helios": helios,
    "acme": acme,
    "pai": pai,
    "openb": openb,
    "spot": spot,
    "swf": swf,
    "plain": plain,
}


def read(
    path: str | Path,
    format: str = "auto",
    durations: Path | None = None,
    columns: Mapping[str, str] | None = None,
) -> JobStream:
    """Read a job list.

    Args:
        path: the file.
        format: a key of :data:`FORMATS`, or ``"auto"`` to tell it by the column names.
        durations: for ``philly-gavel`` the file of run times.
        columns: the file's name of a column by that of ``plain``, which the format then is.

    Raises:
        TraceError: naming the file, line, field, value and remedy.
    """
    path = Path(path)
    if columns:
        format = mapped(path, format)
    if format == "auto":
        format = detect(path)
    if format not in FORMATS:
        raise TraceError(
            f"{path}: unknown job list format {format!r}; choose one of auto, {', '.join(FORMATS)}"
        )
    if durations is None and columns:
        return plain.read(path, columns)
    if durations is None:
        return FORMATS[format].read(path)
    if format != "philly-gavel":
        raise TraceError(
            f"{path}: a file of durations ({durations}) belongs to format philly-gavel, "
            f"not {format}; leave it out"
        )
    return philly_gavel.read(path, durations)


def detect(path: Path) -> str:
    """Return the key of the format that the column names of ``path`` belong to.

    Raises:
        TraceError: the file is empty or no format has these columns.
    """
    first = first_line(path, "a header line and one row per job")
    names = set(cells(path, first))
    for name, module in FORMATS.items():
        if module.detect(names):
            return name
    found = brief(", ".join(sorted(names)))
    raise TraceError(
        f"{path}: columns {found} belong to no known job list; rename them to those of 'plain' "
        f"({', '.join(plain.COLUMNS)}), map them (--columns arrival_s=NAME,...; a "
        "scenario's columns) or say which format it is (--format), one of "
        f"{', '.join(FORMATS)}"
    )
