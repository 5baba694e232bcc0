"""Microsoft Philly (2017), as the Gavel repository has it: two files that belong together.

Source: stanford-futuredata/gavel (MIT), from msr-fiddle/philly-traces (Jeon et al., ATC 2019,
CC-BY-4.0). Arrivals (vc, arrival_s, num_gpus) have no run times; run times (duration_s, num_gpus)
of jobs of at least an hour have no arrivals. Each arrival takes the run time of a random job of its
size, the next smaller one where the size has none; the draw is the same every time. Arrivals count
from the first job of each virtual cluster, so that all clusters start at 0.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...trace_file import TraceError, read_csv
from ..build import build, counts, seconds
from ..stream import JobStream

_ARRIVAL, _GPUS, _TENANT = ("arrival_s", "num_gpus", "vc")
_DURATION = "duration_s"
_SEED = 0


def detect(names: set[str]) -> bool:
    """Tell whether these column names are of either file."""
    return names == {_ARRIVAL, _GPUS, _TENANT} or names == {_DURATION, _GPUS}


def read(path: Path, durations: Path | None = None) -> JobStream:
    """Read arrivals from ``path`` and run times from ``durations``."""
    table = read_csv(path)
    if _ARRIVAL not in table.columns:
        raise TraceError(
            f"{path}: has run times but no {_ARRIVAL}; name the file of arrivals as the job list "
            "and this one as its durations"
        )
    if durations is None:
        raise TraceError(
            f"{path}: has arrivals but no run times; name a file of {_DURATION},{_GPUS} as its "
            "durations"
        )
    gpus = counts(table, _GPUS)
    return build(
        table,
        table.seconds(_ARRIVAL),
        gpus,
        _drawn(gpus, durations),
        tenant=table.column(_TENANT),
    )


def _drawn(gpus: np.ndarray, path: Path) -> np.ndarray:
    """Return a run time for every size."""
    table = read_csv(path)
    known, times = counts(table, _GPUS), seconds(table, _DURATION)
    rng = np.random.Generator(np.random.PCG64(_SEED))
    drawn = np.empty(len(gpus))
    sizes = np.unique(known)
    nearest = sizes[np.maximum(np.searchsorted(sizes, gpus, side="right") - 1, 0)]
    for size in np.unique(nearest):
        rows = np.flatnonzero(nearest == size)
        drawn[rows] = rng.choice(times[known == size], len(rows))
    return drawn
