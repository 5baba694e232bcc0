"""The plain CSV of this project.

| column | meaning |
|---|---|
| `arrival_s` | seconds; the first job becomes time 0 |
| `gpus` | whole number >= 1 |
| `duration_s` | run time on the reference GPU without contention, above 0 |
| `profile` | what it trains, e.g. `ResNet-50` or `vclos/BERT-b16/ring`; optional |
| `tenant` | any label, optional |
| `priority` | in [0, 1], optional |
| `pool` | number of the only pool it runs on, from 0; -1 or no column: any |

Rows may stand in any order.
"""

from __future__ import annotations

from pathlib import Path

from ...trace_file import read_csv
from ..build import between, build, counts, seconds
from ..stream import JobStream

COLUMNS = ("arrival_s", "gpus", "duration_s")


def detect(names: set[str]) -> bool:
    """Tell whether these column names are of this format."""
    return names >= set(COLUMNS)


def read(path: Path) -> JobStream:
    """Read a plain CSV."""
    table = read_csv(path)
    arrival, gpus, duration = COLUMNS
    return build(
        table,
        table.numbers(arrival),
        counts(table, gpus),
        seconds(table, duration),
        profile=table.columns.get("profile"),
        tenant=table.columns.get("tenant"),
        priority=between(table, "priority", 0, 1) if "priority" in table.columns else 0.0,
        pool=between(table, "pool", -1, 1000) if "pool" in table.columns else -1,
    )
