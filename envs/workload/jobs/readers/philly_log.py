"""Microsoft Philly (2017), the original cluster_job_log: a JSON array of jobs.

Source: msr-fiddle/philly-traces (Jeon et al., ATC 2019, CC-BY-4.0). A job has `submitted_time`,
`vc` and `attempts`, each with `start_time`, `end_time` and, per machine, the `gpus` that it held.
A job that failed was tried again: its run time is that of all attempts that
ended, its GPUs are the most that one of them held. Jobs without such an attempt are left out.
Stamps are Pacific wall clock.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from ...trace_file import Table, TraceError, read_text, shown
from ..build import build, counts, keep, seconds, stamps
from ..stream import JobStream

_SUBMIT, _TENANT, _ATTEMPTS = _FIELDS = ("submitted_time", "vc", "attempts")
_START, _END, _DETAIL = ("start_time", "end_time", "detail")
_BEGIN = "["


def detect(names: set[str]) -> bool:
    """Tell whether the first line of the file begins a JSON array."""
    return any(name.startswith(_BEGIN) for name in names)


def read(path: Path) -> JobStream:
    """Read a Philly log; tenants are the virtual clusters."""
    columns: dict[str, list[Any]] = {_SUBMIT: [], _TENANT: [], "gpus": [], "run_s": []}
    lines = []
    for line, job in _jobs(path):
        gpus, run_s = _held(path, line, job)
        for name, value in zip(columns, (job[_SUBMIT], job[_TENANT], gpus, run_s), strict=True):
            columns[name].append(value)
        lines.append(line)
    if not lines:
        raise TraceError(f"{path}: the array is empty; expected one object per job")
    table = Table(path, columns, np.array(lines))
    ran = (table.numbers("gpus") > 0) & (table.numbers("run_s") > 0)
    table = keep(table, ran, "without an attempt that held GPUs and ended")
    return build(
        table,
        stamps(table, _SUBMIT),
        counts(table, "gpus"),
        seconds(table, "run_s"),
        tenant=[str(label) for label in table.column(_TENANT)],
    )


def _jobs(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the line and the object of every job."""
    text = read_text(path)
    decoder, at, line = json.JSONDecoder(), text.find(_BEGIN) + 1, 1
    counted = 0
    while True:
        while text[at : at + 1].isspace() or text[at : at + 1] == ",":
            at += 1
        line, counted = line + text.count("\n", counted, at), at
        if text[at : at + 1] == "]":
            return
        try:
            job, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            raise _error(path, line, f"{shown(text[at : at + 60])} is no JSON ({error})") from error
        missing = (
            [name for name in _FIELDS if name not in job] if isinstance(job, dict) else _FIELDS
        )
        if missing:
            raise _error(path, line, f"field {missing[0]!r} of a job is missing")
        yield line, job


def _held(path: Path, line: int, job: dict[str, Any]) -> tuple[int, float]:
    """Return the GPUs that a job held, and for how long; 0 where no attempt ended."""
    gpus, run_s = 0, 0.0
    try:
        for attempt in job[_ATTEMPTS]:
            begin, end = _time(attempt[_START]), _time(attempt[_END])
            if begin is None or end is None:
                continue
            gpus = max(gpus, sum(len(node["gpus"]) for node in attempt[_DETAIL]))
            run_s += (end - begin).total_seconds()
    except (TypeError, KeyError, ValueError) as error:
        problem = f"{_ATTEMPTS} = {shown(job[_ATTEMPTS])} cannot be read ({shown(error)})"
        raise _error(path, line, problem) from error
    return gpus, run_s


def _time(text: str | None) -> datetime | None:
    return None if text in (None, "None", "") else datetime.fromisoformat(text)


def _error(path: Path, line: int, problem: str) -> TraceError:
    remedy = f"write an array of jobs with {', '.join(_FIELDS)}"
    return TraceError(f"{path}, line {line}: {problem}; {remedy}")
