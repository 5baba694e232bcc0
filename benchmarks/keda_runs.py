"""Token-aware autoscaling by KEDA: twelve measured runs, and the same runs simulated.

    python benchmarks/keda_runs.py [--seeds 3]

Qwen3-32B on H100 (TP2; prefill apart: TP1), at most four replicas a role, Poisson arrivals for
1,200 s, requests given up after 600 s: llm-d's guide to token-aware autoscaling (keda_runs.csv;
llm-d/llm-d at 560d420e, guides/workload-autoscaling/keda-epp-token-aware). The guide calls the
fabric of its stack far from RDMA: the rate of its links follows from its own calibration, 8,192
tokens in 6.9 s through the transfer, and is the one constant set here. Prints each run, simulated
(measured), then in how many pairs of runs that differ by more than a tenth the order is as
measured; the last line is JSON.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import tempfile
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from playing import begin  # noqa: E402

from gpuyard.envs.scenario import Scenario, from_dict  # noqa: E402
from gpuyard.evaluation.requests import request_latencies  # noqa: E402

RUNS = Path(__file__).with_suffix(".csv")
BEGIN_S, STAGE_S, TIMEOUT_S, MOST = 200.0, 1200.0, 600.0, 4
APART_TOKENS_PER_S = 1182.0  # calibrated by the guide through prefill, transfer and first step
# 2.1 GB of KV cache in the 5.9 s that this leaves beside prefill
NODE = {"gpus_per_node": 2, "nics_per_node": 1, "nic_gbit": 3.0}
NUMBERS = ("ttft_p50_s", "ttft_p99_s", "completed", "output_tokens_per_s", "peak_gpus")
SAME = 1.1

Row = Mapping[str, str]


def scenario(run: Row, seed: int, folder: Path) -> Scenario:
    """Return the world of a run: a node per replica, and replicas that serve when it begins."""
    trace = folder / "trace.csv"
    count = int(run["requests"])
    arrival_s = np.sort(np.random.default_rng(seed).uniform(0, STAGE_S, count)) + BEGIN_S
    lengths = f"{run['prompt_tokens']},{run['output_tokens']}"
    lines = [f"{at_s:.6f},{lengths}" for at_s in arrival_s]
    trace.write_text("\n".join(["arrival_s,prompt_tokens,output_tokens", *lines]))
    most = {"min": 1, "initial": 1, "max": MOST if run["mode"] == "autoscaled" else 1}
    deployment: dict[str, Any] = {
        "name": "qwen",
        "gpu": "H100-SXM",
        "model": "Qwen3-32B",
        "tp": 2,
        "max_num_batched_tokens": 8192,
        "workload": {"trace": str(trace), "num_requests": 0},
    }
    if run["layout"] == "apart":
        deployment["roles"] = [
            {"kind": "prefill", "tp": 1, **most},
            {"kind": "decode", "tp": 2, **most},
        ]
    else:
        deployment |= most
    return from_dict(
        {
            "cluster": {"pools": [{"gpu": "H100-SXM", "nodes": 9, **NODE}]},
            "jobs": {
                "num_jobs": 1,
                "max_gpus": 1,
                "max_duration_s": 60.0,
                "profiles": {"VGG-16": 1.0},
            },
            "deployments": [deployment],
            "scaler": {"interval_s": 15.0},
        },
        "keda",
    )


def policy_of(run: Row, world: Scenario) -> str:
    """Return the policy of a run; apart, the guide's divisor is the one that it calibrated."""
    if run["mode"] == "static":
        return "compose:routing/least-requests+topology/kubernetes-spread+scaling/fixed"
    role = world.services[0].roles[0]
    apart = APART_TOKENS_PER_S / role.prefill_tokens_per_s(2048)
    prefill_s = 1.5 * (apart if run["layout"] == "apart" else 1.0)
    scaler = f"scaling/keda?prefill_s={prefill_s:.4f}"
    return f"compose:routing/least-requests+topology/kubernetes-spread+{scaler}"


def play(run: Row, seed: int, folder: Path) -> dict[str, float]:
    """Return the numbers of one simulated run."""
    world = scenario(run, seed, folder)
    env, player, observation, _ = begin(policy_of(run, world), world, [seed], seed)
    done, peak = False, 0
    while not done:
        observation, _, terminated, truncated, info = env.step(player.act(observation))
        if info["time_s"][0] > BEGIN_S:
            peak = max(peak, np.count_nonzero(observation["device_memory"][0]))
        done = bool(terminated[0] | truncated[0])
    requests = env.results(0)["requests"]
    env.close()
    return numbers(requests) | {"peak_gpus": float(peak)}


def numbers(requests: Mapping[str, Any]) -> dict[str, float]:
    """Return what the guide's table shows, of the requests that were not given up."""
    latencies = request_latencies(dict(requests))
    kept = latencies["e2e"] <= TIMEOUT_S
    ttft_s = latencies["ttft"][kept]
    length_s = requests["finish_s"][kept].max() - BEGIN_S
    return {
        "ttft_p50_s": float(np.median(ttft_s)),
        "ttft_p99_s": float(np.percentile(ttft_s, 99)),
        "completed": float(kept.sum()),
        "output_tokens_per_s": float(requests["output_tokens"][kept].sum() / length_s),
    }


def ordered(found: list[dict[str, float]], runs: list[Row], number: str) -> tuple[int, int]:
    """Return in how many pairs of runs the order of a number is as measured, and of how many."""
    right = pairs = 0
    for a, b in combinations(range(len(runs)), 2):
        measured = float(runs[a][number]) / float(runs[b][number])
        if max(measured, 1 / measured) > SAME:
            pairs += 1
            right += (found[a][number] > found[b][number]) == (measured > 1)
    return right, pairs


def main() -> None:
    """Print the runs, measured beside simulated, and how much of their order is right."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    runs = list(csv.DictReader(RUNS.open(encoding="utf-8")))
    found = []
    print(f"| run | {' | '.join(NUMBERS)} |\n|---|" + "---:|" * len(NUMBERS))
    with tempfile.TemporaryDirectory() as folder:
        for run in runs:
            played = [play(run, seed, Path(folder)) for seed in range(options.seeds)]
            found.append({n: float(np.median([p[n] for p in played])) for n in NUMBERS})
            cells = " | ".join(f"{found[-1][n]:.3g} ({float(run[n]):.3g})" for n in NUMBERS)
            shape = f"{run['layout']} {run['prompt_tokens']}/{run['output_tokens']}"
            print(f"| {shape} {run['mode']} | {cells} |", flush=True)
    result = {number: "{} of {}".format(*ordered(found, runs, number)) for number in NUMBERS}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
