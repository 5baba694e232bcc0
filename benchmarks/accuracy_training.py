"""Training steps and collectives against published measurements.

    python benchmarks/accuracy_training.py          # tables, then one line of JSON
    python benchmarks/accuracy_training.py --rows   # every run
    python benchmarks/accuracy_training.py --fit    # refits the constants and prints them
    python benchmarks/accuracy_training.py --held-out  # refits without each model of one benchmark

The runs are in ``training_runs.csv`` (facts with source; ``fit`` marks rows that set a constant).
Collectives inside a node need the measured tables (``../shared/data`` beside the checkout, or the
folder that GPUYARD_DATA names) and are left out without them. ``docs/accuracy_training.md``
discusses the numbers.
"""

from __future__ import annotations

import argparse
import copy
import csv
import json
import os
import sys
import tomllib
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from gpuyard.envs.hardware.catalogue import GPU, Model, gpu, model, model_from  # noqa: E402
from gpuyard.envs.perf.network import internode, nccl  # noqa: E402
from gpuyard.envs.perf.serving.collectives import has_nvlink  # noqa: E402
from gpuyard.envs.perf.training.training import Breakdown, iteration  # noqa: E402
from gpuyard.envs.perf.training.training_job import Layout, TrainingJob  # noqa: E402
from gpuyard.envs.perf.training.training_work import hardware_flops, sequence_flops  # noqa: E402

HERE = Path(__file__).resolve().parent
MIB = 2**20
TIMED = {  # GPU in the collective tables: name, NCCL version that was fitted
    "a100_sxm": ("A100-80", "2.27.3"),
    "h100_sxm": ("H100-SXM", "2.27.3"),
    "h200_sxm": ("H200-SXM", "2.26.2"),
    "b200_sxm": ("B200-SXM", "2.29.2"),
    "gb200": ("GB200-NVL72", "2.29.2"),
    "rtx_pro_6000_server": ("RTX-PRO-6000", "2.29.2"),
}
FITTED = [  # tables of training.toml and keys that --fit moves
    ("gemm", "H100-SXM", "bf16", "efficiency"),
    ("gemm", "H100-SXM", "fp8", "efficiency"),
    ("gemm", "A100-80", "bf16", "efficiency"),
    ("any", "elementwise_bytes"),
    ("any", "score_bytes"),
    ("any", "tp_exposed"),
    ("any", "dp_exposed"),
    *(("software", f"mlperf-{version}") for version in ("3.0", "3.1", "4.0", "4.1", "5.0")),
    ("software", "nemo-25.01"),
    ("software", "megatron-core-0.8"),
]


def run(data: Path | None = None, every_row: bool = False) -> dict[str, dict[str, float]]:
    """Print the tables; return errors in % by group."""
    table = steps()
    if every_row:
        print(table.drop(columns=["software", "fit"]).round(3).to_string(index=False), "\n")
    result = {}
    for name, part in table.groupby("group", sort=False):
        error = 100 * (part.predicted / part.measured - 1)
        result[str(name)] = {
            "rows": len(part),
            "held_out": int((part.fit == 0).sum()),
            "median": float(error.abs().median()),
            "worst": float(error.abs().max()),
            "bias": float(error.mean()),
        }
    print("Step time, error of |predicted/measured - 1| in %")
    print(pd.DataFrame(result).T.round(2).to_string(), "\n")
    if data is not None:
        inside = collectives(data)
        print("NCCL inside a node, 1 MiB and more, error in %")
        print(inside.round(1).to_string(index=False), "\n")
        result["nccl_1MiB"] = {"median": inside["median"].median(), "worst": inside.worst.max()}
    return result


def steps(constants: dict | None = None) -> pd.DataFrame:
    """Return measured and predicted step seconds of every run."""
    rows = []
    for row in _csv("training_runs.csv"):
        job = job_of(row)
        parts = iteration(job, network_of(row), constants)
        rows.append(
            {
                "group": row["group"],
                "run": row["run"],
                "dtype": row["dtype"],
                "software": row["software"],
                "gpus": job.gpus,
                "micro_batches": job.micro_batches,
                "measured": measured_s(row, job),
                "predicted": parts.total_s,
                "fit": int(row["fit"]),
            }
        )
    return pd.DataFrame(rows)


def job_of(row: dict[str, str]) -> TrainingJob:
    """Return the job of a row of ``training_runs.csv``."""
    old = row["software"] == "megatron-2021"
    degrees = {key: int(row[key]) for key in ("dp", "tp", "pp", "vp", "cp")}
    return TrainingJob(
        gpu=gpu(row["gpu"]),
        model=model_of(row["model"]),
        layout=Layout(**degrees),
        gpus=int(row["gpus"]),
        global_batch=int(row["global_batch"]),
        seq_len=int(row["seq_len"]),
        micro_batch=int(row["micro_batch"]),
        dtype=row["dtype"],
        grad_dtype=row["grad_dtype"],
        recompute=row["recompute"],
        distributed_optimizer=not old,
        overlap=not old,
        fused_attention=not old,
        software=row["software"],
    )


def network_of(row: dict[str, str]) -> internode.Network:
    """Return the network of a run: one NIC of the GPU's usual rate each."""
    usual = internode.network_of(gpu(row["gpu"]))
    efficiency = internode.ROCE if row["network"] == "RoCE" else internode.INFINIBAND
    return internode.Network(usual.nic_bytes_per_s, usual.gpus_per_node, efficiency)


def breakdown(run: str) -> Breakdown:
    """Return the predicted terms of the run called ``run``."""
    row = next(row for row in _csv("training_runs.csv") if row["run"] == run)
    return iteration(job_of(row), network_of(row))


def measured_s(row: dict[str, str], job: TrainingJob) -> float:
    """Return the measured step in seconds; throughputs are converted as their source counts."""
    value, unit = float(row["measured"]), row["unit"]
    if unit == "step_s":
        return value
    if unit == "tokens_per_s_per_gpu":
        return job.global_batch * job.seq_len / (value * job.gpus)
    per_sequence = {"tflops": sequence_flops, "hw_tflops": hardware_flops}[unit]
    return job.global_batch * per_sequence(job.model, job.seq_len) / (value * 1e12 * job.gpus)


@cache
def model_of(name: str) -> Model:
    """Return a model of ``training_models.csv`` or of the catalogue."""
    for row in _csv("training_models.csv"):
        if row["name"] == name:
            return model_from(name, {k: v for k, v in row.items() if k != "name"})
    return model(name)


def collectives(data: Path) -> pd.DataFrame:
    """Return errors of the NCCL curves from 1 MiB up, by GPU and operation."""
    table = pd.read_csv(data / "perf/inference/collectives_intranode.csv.gz")
    table = table[(table.lib == "nccl") & (table.bytes >= MIB)]
    rows = []
    for name, (known, version) in TIMED.items():
        part = table[(table.gpu == name) & (table.lib_version == version)]
        device: GPU = gpu(known)
        links = "nvlink" if has_nvlink(device) else "pcie"  # timed with peer-to-peer
        for op, sizes in part.groupby("op"):
            op = str(op).replace("alltoall", "all_to_all")
            error = [
                abs(
                    float(nccl.collective_s(op, r.bytes, r.num_gpus, device, links)) / r.ms * 1e3
                    - 1
                )
                for r in sizes.itertuples()
            ]
            rows.append(
                {
                    "gpu": known,
                    "op": op,
                    "points": len(error),
                    "median": 100 * float(np.median(error)),
                    "worst": 100 * max(error),
                }
            )
    return pd.DataFrame(rows)


def fitted(without: str | None = None) -> dict:
    """Return the tables of ``training.toml`` refitted on the rows marked ``fit``.

    Least squares of log(predicted / measured), every group of rows with the same weight.

    Args:
        without: leave this group out.
    """
    from scipy.optimize import least_squares

    with (ROOT / "envs/perf/training/training.toml").open("rb") as file:
        tables = tomllib.load(file)

    def residuals(values: np.ndarray) -> np.ndarray:
        table = steps(_changed(tables, values))
        table = table[(table.fit == 1) & (table.group != without)]
        share = table.groupby("group").run.transform("size")
        return (np.log(table.predicted / table.measured) / np.sqrt(share)).to_numpy()

    start = np.array([_get(tables, key) for key in FITTED])
    best = least_squares(
        residuals, start, bounds=(0, np.inf), x_scale=start, diff_step=1e-4, max_nfev=30
    )
    return _changed(tables, best.x)


def held_out() -> pd.DataFrame:
    """Return errors in % of each DGX Cloud model with the constants refitted without it."""
    rows = []
    for group in ("dgxc-175b", "dgxc-70b", "dgxc-8b", "dgxc-340b", "dgxc-405b", "dgxc-15b"):
        table = steps(fitted(group))
        table = table[table.group == group]
        error = 100 * (table.predicted / table.measured - 1)
        rows.append((group, len(table), error.abs().median(), error.abs().max(), error.mean()))
    return pd.DataFrame(rows, columns=["group", "rows", "median", "worst", "bias"])


def _get(tables: dict, key: tuple[str, ...]) -> float:
    for part in key:
        tables = tables[part]
    return float(tables)  # type: ignore[arg-type]


def _changed(tables: dict, values: np.ndarray) -> dict:
    tables = copy.deepcopy(tables)
    for key, value in zip(FITTED, values, strict=True):
        place = tables
        for part in key[:-1]:
            place = place[part]
        place[key[-1]] = float(value)
    return tables


@cache
def _csv(name: str) -> list[dict[str, str]]:
    with (HERE / name).open(newline="") as lines:
        return list(csv.DictReader(lines))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", action="store_true", help="print every run")
    parser.add_argument("--fit", action="store_true", help="refit the constants")
    parser.add_argument("--held-out", action="store_true", help="refit without each model")
    args = parser.parse_args()
    if args.fit:
        tables = fitted()
        for key in FITTED:
            print(".".join(key), f"{_get(tables, key):.4g}")
        return
    if args.held_out:
        print(held_out().round(2).to_string(index=False))
        return
    data = Path(os.environ.get("GPUYARD_DATA", ROOT.parent / "shared" / "data"))
    print(json.dumps(run(data if data.is_dir() else None, args.rows)))


if __name__ == "__main__":
    main()
