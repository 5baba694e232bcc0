"""Alibaba OpenB pods (2023): num_gpu, gpu_milli, qos, creation, deletion and scheduled time.

Source: alibaba/clusterdata, cluster-trace-gpu-v2023 (Weng et al., ATC 2023, research use). Pods,
not gangs: 99 % ask for one GPU at most. A pod that asks for part of a GPU (`gpu_milli` < 1000)
takes a whole one here. Run time is deletion - scheduled time; pods without GPUs, and those never
scheduled, are left out. The first 5 % were alive at the start and live long; the dense part is
24 days.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...trace_file import read_csv
from ..build import build, counts, keep, run_times
from ..stream import JobStream

_GPUS, _CREATED, _DELETED, _SCHEDULED, _QOS = _COLUMNS = (
    "num_gpu",
    "creation_time",
    "deletion_time",
    "scheduled_time",
    "qos",
)


def detect(names: set[str]) -> bool:
    """Tell whether these column names are of this format."""
    return names >= set(_COLUMNS)


def read(path: Path) -> JobStream:
    """Read a list of pods; tenants are the classes of service."""
    table = read_csv(path)
    placed = np.array(table.column(_SCHEDULED)) != ""
    table = keep(table, placed & (table.numbers(_GPUS) > 0), "without GPUs or never scheduled")
    running = table.numbers(_DELETED) - table.numbers(_SCHEDULED)
    table, running = keep(table, running > 0, "with a run time of 0"), running[running > 0]
    return build(
        table,
        table.seconds(_CREATED),
        counts(table, _GPUS),
        run_times(table, _DELETED, running),
        tenant=table.column(_QOS),
    )
