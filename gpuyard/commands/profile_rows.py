"""Measurements of a serving endpoint as CSV.

================= ==================================================================================
column            what
================= ==================================================================================
``concurrency``   clients of a closed loop, each with one request at a time
``prompt_tokens`` of a request
``output_tokens`` of a request, 2 or more
``ttft_s``        median or mean time to the first token, s; may be empty or left out
``itl_s``         mean over requests of their mean time between two tokens, s; likewise
``requests``      how many were measured; not needed
``length``        prompt tokens that were asked for; not needed, ``--resume`` goes by it
================= ==================================================================================
"""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

from gpuyard.envs.perf.serving.closed_loop import Measurement

NEEDED = {"concurrency": 1, "prompt_tokens": 1, "output_tokens": 2}
"""Whole numbers of a row, and their least."""
TIMES = ("ttft_s", "itl_s")
OTHERS = {"requests": 1, "length": 1}
COLUMNS = (*NEEDED, *TIMES, *OTHERS)
MOST_TOKENS = 10_000_000
MOST_S = 3600.0


def read(path: Path) -> list[tuple[int, Measurement, dict[str, int]]]:
    """Return the rows: line, measurement, and the other columns.

    Raises:
        ValueError: naming line, column, value and what is allowed.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            _check_header(path, reader.fieldnames or [])
            rows = [(reader.line_num, _row(path, reader.line_num, row)) for row in reader]
    except (csv.Error, UnicodeError) as error:
        raise ValueError(f"{path} is no CSV file: {error}") from None
    if not rows:
        raise ValueError(f"{path} has no rows")
    return [(line, *row) for line, row in rows]


def append(path: Path, row: dict[str, float]) -> None:
    """Add a row, after a header if the file is new."""
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        if new:
            writer.writeheader()
        writer.writerow(row)


def _check_header(path: Path, names: Any) -> None:
    allowed = f"use {', '.join(COLUMNS)}"
    for name in names:
        if name not in COLUMNS:
            raise ValueError(f"{path}, line 1: column {name!r} is unknown; {allowed}")
    if len(set(names)) < len(names):
        raise ValueError(f"{path}, line 1: a column stands twice; {allowed}")
    for name in NEEDED:
        if name not in names:
            raise ValueError(f"{path}, line 1: column {name} is missing; {allowed}")
    if not set(TIMES) & set(names):
        raise ValueError(f"{path}, line 1: give ttft_s or itl_s, or both")


def _row(path: Path, line: int, row: dict[str, Any]) -> tuple[Measurement, dict[str, int]]:
    where = f"{path}, line {line}"
    if None in row or None in row.values():
        raise ValueError(f"{where}: it must have as many cells as the header")
    tokens = {name: _whole(where, name, row[name], least) for name, least in NEEDED.items()}
    times = {name: _seconds(where, name, row[name]) for name in TIMES if name in row}
    others = {
        name: _whole(where, name, row[name], least)
        for name, least in OTHERS.items()
        if row.get(name, "").strip()
    }
    return Measurement(
        tokens["concurrency"], tokens["prompt_tokens"], tokens["output_tokens"], **times
    ), others


def _whole(where: str, name: str, text: str, least: int) -> int:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (least <= value <= MOST_TOKENS and value == int(value)):
        raise ValueError(
            f"{where}: {name} = {text!r} must be a whole number from {least} to {MOST_TOKENS}"
        )
    return int(value)


def _seconds(where: str, name: str, text: str) -> float:
    if not text.strip():
        return math.nan
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= MOST_S:
        raise ValueError(
            f"{where}: {name} = {text!r} must be a number of seconds above 0 and up to "
            f"{MOST_S:g}, or empty"
        )
    return value
