"""The serving engine in a closed loop against whole vLLM runs, through the public interface.

Three vLLM 0.19 servers answered 300 ShareGPT requests each; the same requests go through
``gpuyard/Routing-v0`` with one replica. Kernel constants come from operator tables of the same GPUs
(:mod:`accuracy_steps`); see ``docs/accuracy_serving.md`` for what was calibrated on the runs.

    python benchmarks/accuracy_serving.py
"""

from __future__ import annotations

import csv
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import accuracy_steps  # noqa: E402

import gpuyard  # noqa: E402, F401
from gpuyard.envs.scenario import from_dict  # noqa: E402

METRICS = ("ttft_ms", "tpot_ms", "e2e_ms")
STATISTICS: dict[str, Callable[[pd.Series], float]] = {
    "mean": np.mean,
    "p50": np.median,
    "p90": lambda x: np.quantile(x, 0.9),
    "p99": lambda x: np.quantile(x, 0.99),
}
PEER = {"ttft": 13.6, "tpot": 1.7, "e2e": 2.2}  # LLMServingSim 2's own worst error of a mean, %


VLLM = {"engine": "vllm-0.19", "frontend_ms": 0.0}
"""The servers' version; times count from when the engine had a request."""


@dataclass(frozen=True)
class Run:
    """A server run: where its records are, and the replica that served it."""

    name: str
    folder: str
    workload: str
    replica: dict[str, Any]


RUNS = (
    Run(
        "rtx4090_llama8b",
        "RTX4090/Llama-3.1-8B",
        "sharegpt-llama-3.1-8b-300-sps10.csv.gz",
        {
            "gpu": "RTX-4090",
            "model": "Llama-3.1-8B",
            "max_num_seqs": 256,
            "max_num_batched_tokens": 2048,
            "kv_blocks": 2588,  # as the server reported; the memory model says 2589
        },
    ),
    Run(
        "rtxpro6000_llama8b",
        "RTXPRO6000/Llama-3.1-8B",
        "sharegpt-llama-3.1-8b-300-sps10.csv.gz",
        {
            "gpu": "RTX-PRO-6000",
            "model": "Llama-3.1-8B",
            "max_num_seqs": 128,
            "max_num_batched_tokens": 2048,
        },
    ),
    Run(
        "rtxpro6000_qwen30b_dp2",
        "RTXPRO6000/Qwen3-30B-A3B-Instruct-2507",
        "sharegpt-qwen3-30b-a3b-300-sps10.csv.gz",
        {
            "gpu": "RTX-PRO-6000",
            "model": "Qwen3-30B-A3B",
            "dp": 2,
            "ep": 2,
            "max_num_seqs": 256,  # 128 and 2048 on each of the two ranks
            "max_num_batched_tokens": 4096,
        },
    ),
)


def measured(data: Path, run: Run) -> pd.DataFrame:
    """Return latencies of the server's requests, TTFT from the moment the engine queued them."""
    path = data / "perf/llmservingsim/e2e" / run.folder / "requests.jsonl.gz"
    log = pd.read_json(path, lines=True)
    queued = log.queued_ts
    decode_s = log.last_token_ts - log.first_token_ts
    latencies = {
        "arrival_s": queued - queued.min(),
        "ttft_ms": 1e3 * (log.first_token_ts - queued),
        "tpot_ms": 1e3 * decode_s / (log.output_toks - 1),
        "e2e_ms": 1e3 * (log.last_token_ts - queued),
    }
    return pd.DataFrame(latencies)


def simulated(data: Path, run: Run, arrival_s: np.ndarray) -> pd.DataFrame:
    """Return latencies of the same requests in the environment, in order of arrival."""
    workload = pd.read_csv(data / "perf/llmservingsim/e2e/workloads" / run.workload)
    workload = workload.assign(arrival_s=arrival_s).sort_values("arrival_s", kind="stable")
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.csv"
        workload.to_csv(trace, index=False, quoting=csv.QUOTE_MINIMAL)
        table = {
            "replicas": [VLLM | run.replica],
            "workload": {"trace": str(trace), "num_requests": 0},
        }
        scenario = from_dict(table, name=run.name)
    env = gym.make("gpuyard/Routing-v0", scenario=scenario)
    env.reset(seed=0)
    done = False
    while not done:
        _, _, done, _, _ = env.step(0)
    results = env.get_wrapper_attr("results")()["requests"]
    decode_s = results["finish_s"] - results["first_token_s"]
    latencies = {
        "ttft_ms": 1e3 * (results["first_token_s"] - results["arrival_s"]),
        "tpot_ms": 1e3 * decode_s / (results["output_tokens"] - 1),
        "e2e_ms": 1e3 * (results["finish_s"] - results["arrival_s"]),
    }
    return pd.DataFrame(latencies)


def compare(data: Path, run: Run) -> pd.DataFrame:
    """Return one row per metric and statistic: measured, simulated, error in %."""
    real = measured(data, run)
    ours = simulated(data, run, real.arrival_s.to_numpy())
    rows = []
    for metric in METRICS:
        for name, statistic in STATISTICS.items():
            a, b = float(statistic(real[metric])), float(statistic(ours[metric]))
            rows.append((metric, name, a, b, 100 * (b / a - 1)))
    return pd.DataFrame(rows, columns=["metric", "statistic", "measured", "simulated", "error_pct"])


def run(data: Path) -> dict[str, float]:
    """Print the comparison of every run and return the errors of the means by name, in %."""
    steps = accuracy_steps.steps(data)
    print("\nStep times against summed operator tables (median and 90th percentile of error, bias)")
    print(steps.to_string(index=False, float_format="%.1f"))
    errors = {
        "steps_median_pct": round(float(steps["median"].max()), 2),
        "steps_bias_pct": round(float(steps["bias"].abs().max()), 2),
    }
    for case in RUNS:
        table = compare(data, case)
        print(f"\nvLLM 0.19 run {case.name}, 300 requests")
        print(table.to_string(index=False, float_format="%.1f"))
        for row in table[table.statistic == "mean"].itertuples():
            errors[f"{case.name}_{row.metric[:-3]}_mean_pct"] = round(row.error_pct, 2)
    worst = {
        name: max(abs(errors[f"{case.name}_{name}_mean_pct"]) for case in RUNS) for name in PEER
    }
    print("\nworst error of a mean, % (LLMServingSim 2): ", end="")
    print(", ".join(f"{name} {worst[name]:.1f} ({PEER[name]})" for name in PEER))
    return errors


if __name__ == "__main__":
    run(Path(os.environ.get("GPUYARD_DATA", ROOT.parent / "shared" / "data")))
