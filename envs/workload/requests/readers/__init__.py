"""Readers of public trace formats: one file in, one :class:`RequestStream` out.

Each format lives in a module with ``detect(names)``, which tells by the column names of a file
whether it is of that format, and ``read(path, ...)``. Files may be gzip-compressed.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

from ...trace_file import TraceError, TraceWarning, brief, cells, first_line, mapped, parsed
from ..stream import RequestStream
from . import azure, bailian, burstgpt, mooncake, plain, servegen

__all__ = ["FORMATS", "TraceError", "TraceWarning", "detect", "read"]

FORMATS: dict[str, ModuleType] = {
    "azure": azure,
    "mooncake": mooncake,
    "burstgpt": burstgpt,
    "bailian": bailian,
    "servegen": servegen,
    "plain": plain,
}


def read(path: str | Path, format: str = "auto", **options: Any) -> RequestStream:
    """Read a trace file.

    Args:
        path: the file; for ``servegen`` the file of client windows.
        format: a key of :data:`FORMATS`, or ``"auto"`` to tell it by the column names.
        options: for all formats but ``servegen``: ``sort`` (False), ``drop_failed``; the rest as
            in the ``read`` of the format's module. ``columns`` makes the format ``plain``.

    Raises:
        TraceError: naming the file, line, field, value and remedy.
    """
    path = Path(path)
    if not options.get("columns"):
        options.pop("columns", None)  # only one format takes them
    else:
        format = mapped(path, format)
    if format == "auto":
        format = detect(path)
    if format not in FORMATS:
        raise TraceError(
            f"{path}: unknown trace format {format!r}; choose one of auto, {', '.join(FORMATS)}"
        )
    return FORMATS[format].read(path, **options)


def detect(path: Path) -> str:
    """Return the key of the format that the column names of ``path`` belong to.

    Raises:
        TraceError: the file is empty or no format has these columns.
    """
    names = _names(path)
    for name, module in FORMATS.items():
        if module.detect(names):
            return name
    if "session_id" in names and names & {"delay", "delay_ms", "wait_for", "request_id"}:
        raise TraceError(
            f"{path}: its turns wait for answers (session_id, delay): set workload.closed_loop = "
            "true, and leave out num_requests and rate_scale"
        )
    found = brief(", ".join(sorted(names)))
    raise TraceError(
        f"{path}: columns {found} belong to no known trace format; rename them to those of 'plain' "
        "(arrival_s, prompt_tokens, output_tokens), map them (--columns arrival_s=NAME,...; a "
        "scenario's columns) or say which format it is (--format), one of "
        f"{', '.join(FORMATS)}"
    )


def _names(path: Path) -> set[str]:
    """Return the column names of a CSV file, or the keys of the first object of a JSONL file."""
    first = first_line(path, "a header line or JSON objects")
    if first.lstrip().startswith("{"):
        return set(parsed(path, 1, first))
    return set(cells(path, first))
