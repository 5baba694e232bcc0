"""Prefill and decode apart against together, on equal GPUs: by prompt length, load and routing.

    python benchmarks/disaggregation.py [--seeds 8] [--rates 1,2,3]

One node's worth of replicas serves single requests of a fixed shape; each row says what is better
where. The last line is JSON: the ratio of the two, apart over together, of each number and cell.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np

from gpuyard.baselines import make
from gpuyard.envs.scenario import Scenario, from_dict
from gpuyard.evaluation.rollout import rollout

POLICY = "compose:routing/predicted-ttft+gang/fifo+scaling/fixed"
SHAPES = {"short prompts": ("azure-conv", 2048), "long prompts": ("azure-code", 8192)}
NUMBERS = ("ttft_mean_s", "ttft_p99_s", "tpot_mean_s", "tpot_p99_s", "e2e_mean_s", "slo_attainment")


def scenario(preset: str, max_tokens: int, rate_per_s: float, apart: bool) -> Scenario:
    """Return four replicas of Llama-3-8B on four H100, together or two and two."""
    deployment: dict[str, Any] = {
        "name": "chat",
        "gpu": "H100-SXM",
        "model": "Llama-3-8B",
        "startup_s": 0.0,
        "handover": "seeded",
        "workload": {
            "preset": preset,
            "num_requests": 600,
            "rate_per_s": rate_per_s,
            "max_tokens": max_tokens,
        },
    }
    if apart:
        deployment["roles"] = [{"kind": k, "min": 2, "max": 2} for k in ("prefill", "decode")]
    else:
        deployment |= {"min": 4, "max": 4}
    return from_dict(
        {
            "cluster": {"pools": [{"gpu": "H100-SXM", "nodes": 2}]},
            "jobs": {
                "num_jobs": 1,
                "max_gpus": 1,
                "profiles": {"VGG-16": 1.0},
            },
            "deployments": [deployment],
            "scaler": {"interval_s": 0.0},
            "slo": {"ttft_s": 0.5, "tpot_s": 0.02},
        },
        "apart" if apart else "together",
    )


def measured(world: Scenario, seeds: int) -> dict[str, float]:
    """Return the mean of each number over seeds."""
    found = rollout(POLICY, make(POLICY), world, np.arange(seeds)).metrics
    return {name: float(np.nanmean(found[name])) for name in NUMBERS}


def main() -> None:
    """Print a row per shape, rate and layout, then the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--rates", default="10,20,40,60")
    options = parser.parse_args()
    ratios: dict[str, dict[str, float]] = {}
    print(f"{'':34}" + "".join(f"{name:>16}" for name in NUMBERS))
    for shape, (preset, max_tokens) in SHAPES.items():
        for rate in map(float, options.rates.split(",")):
            pair = [
                measured(scenario(preset, max_tokens, rate, apart), options.seeds)
                for apart in (False, True)
            ]
            for layout, row in zip(("together", "apart"), pair, strict=True):
                cells = "".join(f"{row[name]:16.4f}" for name in NUMBERS)
                print(f"{shape:14} {rate:5g}/s {layout:12}{cells}", flush=True)
            ratios[f"{shape} {rate:g}"] = {
                name: round(pair[1][name] / pair[0][name], 3) for name in NUMBERS if pair[0][name]
            }
    print(json.dumps(ratios))


if __name__ == "__main__":
    main()
