"""Alibaba PAI (2020): pai_task_table with its header, one row per task, several tasks per job.

Source: alibaba/clusterdata, cluster-trace-gpu-v2020 (Weng et al., NSDI 2022). The archive keeps the
header in a file of its own: put `pai_task_table.header` in front of `pai_task_table.csv`. Columns:
job_name, task_name, inst_num, status, start_time, end_time (s), plan_cpu, plan_mem, plan_gpu (in
percent of a GPU, empty: none), gpu_type. A job holds inst_num x plan_gpu of all its tasks, a part
of a GPU counting as a whole one, from its first start to its last end. Arrival is that first start:
the submission stands in another table, a median of 9 s earlier.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...trace_file import Table, TraceError, read_csv
from ..build import build, keep
from ..stream import JobStream

_JOB, _INSTANCES, _START, _END, _PERCENT = _COLUMNS = (
    "job_name",
    "inst_num",
    "start_time",
    "end_time",
    "plan_gpu",
)


def detect(names: set[str]) -> bool:
    """Tell whether these column names are of this format."""
    return names >= set(_COLUMNS)


def read(path: Path) -> JobStream:
    """Read a table of tasks."""
    table = read_csv(path)
    known = [all(row) for row in zip(*(table.column(name) for name in _COLUMNS), strict=True)]
    table = keep(table, np.array(known), "tasks without GPUs, a start or an end")
    if not len(table):
        raise TraceError(f"{path}: no task with GPUs, a start and an end is left to replay")
    positive = table.numbers(_PERCENT) > 0
    table = keep(table, positive, "tasks without GPUs")
    return _jobs(table)


def _jobs(table: Table) -> JobStream:
    """Put the tasks of each job together."""
    _, first, job = np.unique(table.column(_JOB), return_index=True, return_inverse=True)
    start, end = np.full(len(first), np.inf), np.zeros(len(first))
    np.minimum.at(start, job, table.numbers(_START))
    np.maximum.at(end, job, table.numbers(_END))
    gpus = np.zeros(len(first))
    np.add.at(gpus, job, np.ceil(table.numbers(_PERCENT) / 100.0) * table.numbers(_INSTANCES))
    jobs = table.take(first)
    ran = (end > start) & (gpus >= 1)
    jobs = keep(jobs, ran, "jobs that ended as they started")
    return build(jobs, start[ran], gpus[ran].astype(np.int32), end[ran] - start[ran])
