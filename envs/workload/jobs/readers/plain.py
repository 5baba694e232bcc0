"""The plain CSV of this project.

| column | meaning |
|---|---|
| `arrival_s` | seconds; the first job becomes time 0 |
| `gpus` | whole number >= 1 |
| `duration_s` | run time on the reference GPU without contention, above 0 |
| `profile` | what it trains, e.g. `ResNet-50` or `vclos/BERT-b16/ring`; optional |
| `tenant` | any label, optional |
| `priority` | in [0, 1], optional |
| `estimate_s` | run time that the user stated, seconds above 0, or nothing; optional |
| `pool` | number of the only pool it runs on, from 0; -1 or no column: any |

Rows may stand in any order. A file with other names is read by a mapping,
`columns = {gpus = "num_gpus", ...}`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...trace_file import Table, read_csv
from ..build import between, build, counts, seconds, stated
from ..stream import JobStream

COLUMNS = ("arrival_s", "gpus", "duration_s")
OPTIONAL = ("profile", "tenant", "priority", "estimate_s", "pool")


def detect(names: set[str]) -> bool:
    """Tell whether these column names are of this format."""
    return names >= set(COLUMNS)


def read(path: Path, columns: Mapping[str, str] | None = None) -> JobStream:
    """Read a plain CSV; ``columns``: the file's name of a column by the one above."""
    table = read_csv(path).named(columns or {}, (*COLUMNS, *OPTIONAL))
    arrival, gpus, duration = COLUMNS
    return build(
        table,
        table.seconds(arrival),
        counts(table, gpus),
        seconds(table, duration),
        profile=table.columns.get("profile"),
        tenant=table.columns.get("tenant"),
        priority=between(table, "priority", 0, 1) if "priority" in table.columns else 0.0,
        pool=_pools(table) if "pool" in table.columns else -1,
        estimate_s=stated(table, "estimate_s") if "estimate_s" in table.columns else None,
    )


def _pools(table: Table) -> NDArray[np.float64]:
    pools = between(table, "pool", -1, 1000)
    table.refuse("pool", pools != np.floor(pools), "is no pool", "write a whole number from -1 on")
    return pools
