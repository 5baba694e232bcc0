"""Starts of replicas against published measurements.

    python benchmarks/accuracy_startup.py          # a table of errors
    python benchmarks/accuracy_startup.py --rows   # every row

The rows are in ``startup_runs.csv`` (facts with source; ``fit`` marks those that set a constant,
the others are held out). A total of a start is compared whole; ``wake`` is sleep level 1.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pandas as pd
from replica_rows import report

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from gpuyard.envs.hardware.catalogue import gpu, model  # noqa: E402
from gpuyard.envs.perf import Deployment  # noqa: E402
from gpuyard.envs.perf.serving.startup import process_s, startup, wake_s  # noqa: E402


def rows() -> pd.DataFrame:
    """Return the runs with ``ours_s`` and ``error`` in %."""
    table = pd.read_csv(Path(__file__).parent / "startup_runs.csv")
    table["ours_s"] = [_ours_s(row) for row in table.itertuples()]
    table["error"] = 100 * (table.ours_s / table.measured_s - 1)
    return table


def _ours_s(row) -> float:
    shape = model(row.model)
    if row.layers == row.layers:  # a stand-in of as many layers
        layers = int(row.layers)
        shape = dataclasses.replace(shape, layers=layers, dense_layers=layers)
    # an A100 computes no fp8, but vLLM loads such weights there
    device = dataclasses.replace(gpu(row.gpu), fp8_flops=gpu(row.gpu).fp8_flops or 1.0)
    replica = Deployment(device, shape, tp=row.tp, dtype=row.dtype, engine=row.engine)
    if row.part == "wake":
        return wake_s(replica)
    if row.part == "process":
        return process_s(replica)
    start = startup(replica, row.source_gbps, row.loader, bool(row.cached))
    return start.total_s if row.part == "total" else getattr(start, f"{row.part}_s")


if __name__ == "__main__":
    report(
        rows(),
        "part",
        [
            *("run", "model", "tp", "engine", "cached"),
            *("part", "measured_s", "ours_s", "error", "fit"),
        ],
    )
