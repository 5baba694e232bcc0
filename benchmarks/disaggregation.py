"""Prefill and decode apart against together, on equal GPUs: by prompt length, load and fabric.

    python benchmarks/disaggregation.py                            # 4 seeds, all fabrics
    python benchmarks/disaggregation.py --fabrics node,25 --seeds 8
    python benchmarks/disaggregation.py --plot docs/images/disaggregation.png

Four H100 serve Llama-3-8B, all together or two and two, on one node (``node``) or each on its own
behind a NIC of so many Gb/s. A row has the ratios, apart over together, of TTFT, of the P99 of the
time per token, of the time to the last token and of the objectives met; then, for each shape and
fabric, the rate from which apart is the better one. The last line is JSON.
``disaggregation_pairs.py`` has published pairs.
"""

from __future__ import annotations

import argparse
import json
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np

from gpuyard.baselines import make
from gpuyard.envs.scenario import Scenario, from_dict
from gpuyard.evaluation.rollout import rollout

POLICY = "compose:routing/predicted-ttft+gang/fifo+scaling/fixed"
SHAPES = {
    "short prompts": ("azure-conv", 2048),
    "long prompts": ("azure-code", 8192),
    "chat history": ("mooncake-conv", 32768),
}
RATES = {"short prompts": (10, 40, 70, 100), "long prompts": (5, 10, 20, 30)}
RATES["chat history"] = (1, 2, 4, 6)
FABRICS = ("node", "400", "100", "25", "10")
NUMBERS = ("ttft_mean_s", "tpot_p99_s", "e2e_mean_s", "slo_attainment")


def scenario(shape: str, rate_per_s: float, fabric: str, apart: bool) -> Scenario:
    """Return four replicas of Llama-3-8B on four H100, together or two and two."""
    preset, max_tokens = SHAPES[shape]
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
    pool: dict[str, Any] = {"gpu": "H100-SXM", "nodes": 2}
    if fabric != "node":
        pool |= {"gpus_per_node": 1, "nics_per_node": 1, "nic_gbit": float(fabric), "nodes": 5}
    return from_dict(
        {
            "cluster": {"pools": [pool]},
            "jobs": {"num_jobs": 1, "max_gpus": 1, "profiles": {"VGG-16": 1.0}},
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


def ratios(shape: str, rate: float, fabric: str, seeds: int) -> dict[str, float]:
    """Return each number apart over the same together."""
    together, apart = (
        measured(scenario(shape, rate, fabric, is_apart), seeds) for is_apart in (False, True)
    )
    return {name: apart[name] / max(together[name], 1e-9) for name in NUMBERS}


def crossing(rates: tuple[float, ...], values: list[float], is_more_better: bool) -> str:
    """Say from which rate on apart is better: by the line between the two rates around it."""
    better = [value > 1 if is_more_better else value < 1 for value in values]
    if better[0]:
        return f"at {rates[0]:g} and more" if all(better) else f"below {_cut(rates, values):.3g}"
    return f"from {_cut(rates, values):.3g}" if any(better) else "never"


def _cut(rates: tuple[float, ...], values: list[float]) -> float:
    for (low, a), (high, b) in pairwise(zip(rates, values, strict=True)):
        if (a - 1) * (b - 1) <= 0 and a != b:
            return low + (high - low) * (1 - a) / (b - a)
    return rates[-1]


def plot(found: dict[str, dict[str, float]], fabrics: list[str], path: Path) -> None:
    """Draw the ratio of each number by rate, a panel per shape and number, a line per fabric."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(3, len(NUMBERS), figsize=(13, 8), layout="constrained")
    for (row, shape), (column, number) in product(enumerate(SHAPES), enumerate(NUMBERS)):
        axis = axes[row, column]
        for fabric in fabrics:
            values = [found[f"{shape}, {fabric}, {rate}/s"][number] for rate in RATES[shape]]
            axis.plot(RATES[shape], values, "o-", markersize=3, label=fabric)
        axis.axhline(1, color="0.5", linewidth=0.8)
        axis.set(title=f"{shape}: {number}", yscale="log")
    axes[0, 0].legend(title="fabric, Gb/s", fontsize=7)
    figure.supxlabel("requests/s")
    figure.supylabel("apart over together")
    figure.savefig(path, dpi=110)


def main() -> None:
    """Print a row per shape, fabric and rate, then where they cross."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--fabrics", default=",".join(FABRICS))
    parser.add_argument("--plot", type=Path, help="PNG to write")
    options = parser.parse_args()
    fabrics = options.fabrics.split(",")
    found: dict[str, dict[str, float]] = {}
    print(f"| apart over together | {' | '.join(NUMBERS)} |\n|---|" + "---:|" * len(NUMBERS))
    for shape, fabric in product(SHAPES, fabrics):
        for rate in RATES[shape]:
            row = ratios(shape, rate, fabric, options.seeds)
            found[f"{shape}, {fabric}, {rate}/s"] = row
            cells = " | ".join(f"{row[name]:.3g}" for name in NUMBERS)
            print(f"| {shape}, {fabric}, {rate}/s | {cells} |", flush=True)
    print(f"\n| apart is better | {' | '.join(NUMBERS)} |\n|---|" + "---|" * len(NUMBERS))
    for shape, fabric in product(SHAPES, fabrics):
        rows = [found[f"{shape}, {fabric}, {rate}/s"] for rate in RATES[shape]]
        cells = " | ".join(
            crossing(RATES[shape], [row[name] for row in rows], name == "slo_attainment")
            for name in NUMBERS
        )
        print(f"| {shape}, {fabric} | {cells} |")
    if options.plot:
        plot(found, fabrics, options.plot)
    print(
        json.dumps({cell: {k: round(v, 3) for k, v in row.items()} for cell, row in found.items()})
    )


if __name__ == "__main__":
    main()
