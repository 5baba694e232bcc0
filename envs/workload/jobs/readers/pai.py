"""Alibaba PAI (2020): pai_task_table, one row per task, several tasks per job.

Source: alibaba/clusterdata, cluster-trace-gpu-v2020 (Weng et al., NSDI 2022). The archive keeps the
header in a file of its own, so `pai_task_table.csv` is read with or without it. Columns: job_name,
task_name, inst_num, status, start_time, end_time (s), plan_cpu, plan_mem, plan_gpu (in percent of a
GPU, empty: none), gpu_type. A job holds inst_num x plan_gpu of all its tasks, a part of a GPU
counting as a whole one, from its first start to its last end. Arrival is that first start: the
submission stands in another table, a median of 9 s earlier.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...trace_file import Table, cells, first_line, read_csv
from ..build import build, keep, run_times, whole_gpus
from ..stream import JobStream

_JOB, _INSTANCES, _START, _END, _PERCENT = _COLUMNS = (
    "job_name",
    "inst_num",
    "start_time",
    "end_time",
    "plan_gpu",
)


_HEADER = (
    *("job_name", "task_name", "inst_num", "status", "start_time", "end_time"),
    *("plan_cpu", "plan_mem", "plan_gpu", "gpu_type"),
)
_STATES = {"Terminated", "Failed", "Running", "Waiting"}


def detect(names: set[str]) -> bool:
    """Tell whether these are the column names of this format, or the values of a row."""
    return names >= set(_COLUMNS) or _is_row(names)


def read(path: Path) -> JobStream:
    """Read a table of tasks."""
    bare = _is_row(set(cells(path, first_line(path, "one row per task"))))
    table = read_csv(path, names=_HEADER if bare else ())
    known = [all(row) for row in zip(*(table.column(name) for name in _COLUMNS), strict=True)]
    table = keep(table, np.array(known), "tasks without GPUs, a start or an end")
    positive = table.numbers(_PERCENT) > 0
    table = keep(table, positive, "tasks without GPUs")
    return _jobs(table)


def _is_row(values: set[str]) -> bool:
    """Tell by its state a row of the table; two of its values may be the same."""
    return bool(values & _STATES) and len(values) <= len(_HEADER)


def _jobs(table: Table) -> JobStream:
    """Put the tasks of each job together."""
    _, first, job = np.unique(table.column(_JOB), return_index=True, return_inverse=True)
    start, end = np.full(len(first), np.inf), np.zeros(len(first))
    np.minimum.at(start, job, table.seconds(_START))
    np.maximum.at(end, job, table.seconds(_END))
    gpus = np.zeros(len(first))
    np.add.at(gpus, job, np.ceil(table.numbers(_PERCENT) / 100.0) * table.numbers(_INSTANCES))
    jobs = table.take(first)
    ran = (end > start) & (gpus >= 1)
    jobs = keep(jobs, ran, "jobs that ended as they started")
    held = whole_gpus(jobs, _INSTANCES, gpus[ran])
    return build(jobs, start[ran], held, run_times(jobs, _END, end[ran] - start[ran]))
