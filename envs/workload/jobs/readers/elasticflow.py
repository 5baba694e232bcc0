"""ElasticFlow's job lists: Philly jobs of one virtual cluster with a model and a deadline.

Source: pkusys/ElasticFlow (Gu et al., ASPLOS 2023, Apache-2.0). Columns: job_id, submit_time (s),
model_name, num_gpu, duration (s, on that many GPUs), ddl (a deadline, not used), iterations.
"""

from __future__ import annotations

from pathlib import Path

from ...trace_file import read_csv
from ..build import build, counts, seconds
from ..stream import JobStream

_SUBMIT, _GPUS, _DURATION = ("submit_time", "num_gpu", "duration")


def detect(names: set[str]) -> bool:
    """Tell whether these column names are of this format."""
    return names >= {_SUBMIT, _GPUS, _DURATION, "model_name", "ddl"}


def read(path: Path) -> JobStream:
    """Read a list of jobs."""
    table = read_csv(path)
    return build(table, table.seconds(_SUBMIT), counts(table, _GPUS), seconds(table, _DURATION))
