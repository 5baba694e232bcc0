"""Alibaba spot GPUs (2026): job_info_df.csv with gpu_request x worker_num, submit_time, duration.

Source: alibaba/clusterdata, cluster-trace-v2026-spot-gpu (Duan et al., ASPLOS 2026, research use).
Columns: job_name, organization, gpu_model, cpu_request, gpu_request, worker_num, submit_time (s
since the first job), duration (s), job_type (HP or Spot). A job holds gpu_request, rounded up to
whole GPUs, for each worker; HP has priority 1, Spot 0. Jobs submitted at 0 were there before and
are left out. The summary tables that circulate hold no jobs; the generator `spot-like` is fitted to
them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...trace_file import read_csv
from ..build import build, counts, keep, seconds, whole_gpus
from ..stream import JobStream

_REQUEST, _WORKERS, _SUBMIT, _DURATION, _TYPE, _TENANT = _COLUMNS = (
    "gpu_request",
    "worker_num",
    "submit_time",
    "duration",
    "job_type",
    "organization",
)
PRIORITY = {"HP": 1.0, "Spot": 0.0}


def detect(names: set[str]) -> bool:
    """Tell whether these column names are of this format."""
    return names >= set(_COLUMNS)


def read(path: Path) -> JobStream:
    """Read a list of jobs; tenants are the organizations."""
    table = read_csv(path)
    wanted = (table.numbers(_REQUEST) > 0) & (table.numbers(_DURATION) > 0)
    table = keep(table, wanted, "without GPUs or a run time")
    table = keep(table, table.numbers(_SUBMIT) > 0, "submitted before the trace began")
    for row, kind in enumerate(table.column(_TYPE)):
        if kind not in PRIORITY:
            table.fail(row, _TYPE, kind, "is no type of job", "write HP or Spot")
    workers = counts(table, _WORKERS).astype(np.float64)
    gpus = np.ceil(table.numbers(_REQUEST)) * workers
    return build(
        table,
        table.seconds(_SUBMIT),
        whole_gpus(table, _REQUEST, gpus),
        seconds(table, _DURATION),
        tenant=table.column(_TENANT),
        priority=np.array([PRIORITY[kind] for kind in table.column(_TYPE)]),
    )
