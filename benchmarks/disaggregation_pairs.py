"""Prefill and decode apart against together, pair by pair beside published measurements.

    python benchmarks/disaggregation_pairs.py [--seeds 4]

``disaggregation_pairs.csv`` holds what others measured with both layouts at the same load on the
same number of GPUs (one pair, several metrics). Each layout is played here with Poisson arrivals
and the lengths of the source; nothing is fitted. A row prints the ratio apart over together as
measured and as simulated; the end counts signs (a ratio within 5 % of 1 has none) and how far
ratios are off. The last line is JSON.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import sys
import tempfile
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from gpuyard.baselines import make  # noqa: E402
from gpuyard.envs.scenario import Scenario, from_dict  # noqa: E402
from gpuyard.evaluation.requests import attained, request_latencies  # noqa: E402
from gpuyard.evaluation.rollout import rollout  # noqa: E402

PAIRS = Path(__file__).with_suffix(".csv")
POLICY = "compose:routing/least-requests+gang/fifo+scaling/fixed"
SLO = {"ttft_s": 1.0, "tpot_s": 0.05}  # of the one pair that counts objectives met
NO_SIGN = 1.05

Row = Mapping[str, str]


def sized(layout: str) -> tuple[int, int]:
    """Return replicas and TP degree of a layout such as 8xTP1."""
    replicas, tp = layout.split("xTP")
    return int(replicas), int(tp)


def scenario(pair: Row, apart: bool, trace: Path) -> Scenario:
    """Return the world of one layout of a pair, its requests from a trace."""
    deployment: dict[str, Any] = {
        "name": "pair",
        "gpu": pair["gpu"],
        "model": pair["model"],
        "dtype": pair["dtype"],
        "startup_s": 0.0,
        "connector": pair["connector"],
        "workload": {"trace": str(trace), "num_requests": 0},
    }
    if apart:
        deployment["roles"] = [
            {"kind": kind, "min": n, "max": n, "tp": tp}
            for kind in ("prefill", "decode")
            for n, tp in [sized(pair[kind])]
        ]
    else:
        n, tp = sized(pair["together"])
        deployment |= {"min": n, "max": n, "tp": tp}
    n, tp = sized(pair["together"])
    return from_dict(
        {
            "cluster": {"pools": [{"gpu": pair["gpu"], "nodes": math.ceil(n * tp / 8) + 1}]},
            "jobs": {"num_jobs": 1, "max_gpus": 1, "profiles": {"VGG-16": 1.0}},
            "deployments": [deployment],
            "scaler": {"interval_s": 0.0},
            "slo": SLO,
        },
        "apart" if apart else "together",
    )


def arrivals(pair: Row, seed: int, path: Path) -> None:
    """Write a trace of Poisson arrivals and the pair's lengths."""
    count, rate_per_s = int(pair["requests"]), float(pair["rate_per_s"])
    gaps_s = np.random.default_rng(seed).exponential(1 / rate_per_s, count)
    lengths = f"{pair['prompt_tokens']},{pair['output_tokens']}"
    lines = [f"{arrival_s:.6f},{lengths}" for arrival_s in np.cumsum(gaps_s)]
    path.write_text("\n".join(["arrival_s,prompt_tokens,output_tokens", *lines]))


def numbers(requests: dict[str, NDArray[Any]], world: Scenario) -> dict[str, float]:
    """Return every metric that a pair may ask for, over the whole episode as the sources count."""
    found: dict[str, float] = {}
    for name, values in request_latencies(requests).items():
        found[f"{name}_mean_s"] = float(np.nanmean(values))
        for q in (95, 99):
            found[f"{name}_p{q}_s"] = float(np.nanpercentile(values, q))
    length_s = requests["finish_s"].max() - requests["arrival_s"].min()
    found["output_tokens_per_s"] = float(requests["output_tokens"].sum() / length_s)
    found["slo_attainment"] = float(attained(requests, world.slo).mean())
    return found


def played(pair: Row, apart: bool, seeds: int, folder: Path) -> dict[str, float]:
    """Return the mean of each metric over seeds."""
    found = []
    for seed in range(seeds):
        trace = folder / "trace.csv"
        arrivals(pair, seed, trace)
        world = scenario(pair, apart, trace)
        first = rollout(POLICY, make(POLICY), world, np.arange(1)).first
        found.append(numbers(first["requests"], world))
    return {name: float(np.mean([f[name] for f in found])) for name in found[0]}


def sign(ratio: float) -> int:
    """Return 1 for more, -1 for less, 0 within 5 %."""
    return 0 if 1 / NO_SIGN <= ratio <= NO_SIGN else int(math.copysign(1, ratio - 1))


def main() -> None:
    """Print a line for each metric of each pair, then what they amount to."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=4)
    options = parser.parse_args()
    rows = list(csv.DictReader(PAIRS.open(encoding="utf-8")))
    head = ("pair", "metric", "together", "apart", "ratio", "measured", "sign")
    print("{:14} {:20} {:>10} {:>10} {:>7} {:>8} {:>5}".format(*head))
    right, factors = [], []
    with tempfile.TemporaryDirectory() as folder:
        for _, group in groupby(rows, key=lambda row: row["pair"]):
            metrics = list(group)
            layouts = [
                played(metrics[0], apart, options.seeds, Path(folder)) for apart in (False, True)
            ]
            for row in metrics:
                ours = [layout[row["metric"]] for layout in layouts]
                ratio = ours[1] / ours[0] if ours[0] else math.inf
                measured = float(row["measured_apart"]) / float(row["measured_together"])
                right.append(sign(ratio) == sign(measured))
                factors.append(max(ratio / measured, measured / ratio))
                print(
                    f"{row['pair']:14} {row['metric']:20} {ours[0]:10.4g} {ours[1]:10.4g} "
                    f"{ratio:7.3f} {measured:8.3f} {'ok' if right[-1] else '-':>5}",
                    flush=True,
                )
    result = {"rows": len(right), "signs_right": float(np.mean(right))}
    result["ratio_off_median"] = float(np.median(factors))
    print(json.dumps({name: round(value, 3) for name, value in result.items()}))


if __name__ == "__main__":
    main()
