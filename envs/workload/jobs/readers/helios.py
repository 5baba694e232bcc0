"""SenseTime Helios (2020): cluster_log.csv with job_id, user, vc, gpu_num, state, submit_time, ...

Source: S-Lab-System-Group/HeliosData (Hu et al., SC 2021, CC-BY-4.0). Jobs of any final state are
kept, as they held their GPUs; those without GPUs are left out. The aggregates that circulate
(throughput per 10 minutes, state of virtual clusters, GPUs per day, summary per cluster) hold no
jobs and cannot be read; the generator `helios-like` is fitted to them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...trace_file import TraceError, read_csv
from ..build import build, counts, keep, seconds, stamps
from ..stream import JobStream

_GPUS, _SUBMIT, _DURATION, _TENANT = ("gpu_num", "submit_time", "duration", "vc")
_AGGREGATES = ({"submit_gpu_job", "submit_gpu_num"}, {"running_gpujob_num"}, {"gpu_job_num"})


def detect(names: set[str]) -> bool:
    """Tell whether these column names are of this format."""
    return names >= {_GPUS, _SUBMIT, _DURATION, _TENANT} or any(
        names >= columns for columns in _AGGREGATES
    )


def read(path: Path) -> JobStream:
    """Read a Helios log; tenants are the virtual clusters."""
    table = read_csv(path)
    if _SUBMIT not in table.columns:
        raise TraceError(
            f"{path}: holds counts of jobs, not jobs; read the job list of the trace (Helios: "
            "cluster_log.csv), or take a generator such as the preset 'helios-like'"
        )
    used = (table.numbers(_GPUS) > 0) & (table.numbers(_DURATION) > 0)
    table = keep(table, np.asarray(used), "without GPUs or a run time")
    return build(
        table,
        stamps(table, _SUBMIT),
        counts(table, _GPUS),
        seconds(table, _DURATION),
        tenant=table.column(_TENANT),
    )
