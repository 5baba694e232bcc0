"""Whole worlds of prefill and decode replicas beside training gangs, in FLUID and in FLOW.

Sixteen A100 with a NIC each under eight leaf switches; three prefill and three decode replicas
of Llama-2-7B (half a MB of KV cache a token) and gangs of VGG-16 and BERT on the rest, all of them
where the same fixed rule puts them, leafs apart. Requests come for 100 s and go round in turn. By
oversubscription and rate of requests: how much of their NICs' time the prefill replicas send, how
much longer gangs run than if no two flows had met, and the error of FLUID in mean TTFT, time of a
KV transfer (software included), and completion time of jobs.

    python benchmarks/kv_transfer_worlds.py [--seeds 4] [--rates 0.1,4,8,12]

The last line is JSON: the errors by rate, as shares.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import gpuyard  # noqa: F401
from gpuyard.envs.engine.core.records import PLACE, ROUTE
from gpuyard.envs.scenario import Scenario, from_dict

NUMBERS = ("ttft_s", "transfer_s", "jct_s")
SPAN_S = 100.0


def scenario(over: float, rate_per_s: float, fidelity: str, span_s: float) -> Scenario:
    """Return one world."""
    fabric = {"nodes_per_leaf": 2, "uplinks": 1, "spines": 1, "oversubscription": over}
    roles = [{"kind": kind, "min": 3, "max": 3} for kind in ("prefill", "decode")]
    workload = {
        "preset": "azure-code",
        "num_requests": int(rate_per_s * span_s),
        "rate_per_s": rate_per_s,
        "max_tokens": 4096,
    }
    return from_dict(
        {
            "cluster": {
                "pools": [{"gpu": "A100-80", "nodes": 16, "gpus_per_node": 1}],
                "fabric": fabric,
            },
            "network": {"fidelity": fidelity, "routing": "ecmp", "queue_pairs": 1},
            "jobs": {
                "num_jobs": 6,
                "rate_per_h": 3600.0,
                "max_gpus": 4,
                "max_duration_s": 30.0,
                "profiles": {"VGG-16": 0.5, "BERT-large-512": 0.5},
            },
            "deployments": [
                {
                    "name": "chat",
                    "gpu": "A100-80",
                    "model": "Llama-2-7B",
                    "startup_s": 0.0,
                    "handover": "seeded",
                    "roles": roles,
                    "workload": workload,
                }
            ],
            "scaler": {"interval_s": 0.0},
        },
        f"transfers-{fidelity}",
    )


def play(env: Any, seed: int) -> dict[str, float]:
    """Play an episode by the fixed rule; returns its numbers."""
    env.reset(seed=seed)
    world, turn, done = env._world, {ROUTE: 0, PLACE: 0}, False
    while not done:
        feasible = np.flatnonzero(env.action_masks())
        due = int(world.clock["due"][0])
        at = turn[due] if due == ROUTE else 5 * turn[due] + 2
        turn[due] += 1
        *_, terminated, truncated, _ = env.step(int(feasible[at % len(feasible)]))
        done = terminated or truncated
    assert terminated
    tables, fleet = env.results(), world.state["fleet"][0]
    requests, jobs = tables["requests"], tables["jobs"]
    ports = 3 * world.shared["capacity"][-2 * len(world.shared["replica_specs"])]
    span_s = requests["finish_s"].max() - requests["arrival_s"].min()
    return {
        "ttft_s": float((requests["first_token_s"] - requests["arrival_s"]).mean()),
        "transfer_s": float(fleet["moving_s"] / fleet["moves"]),
        "jct_s": float((jobs["finish_s"] - jobs["arrival_s"]).mean()),
        "load": float(fleet["moved_bytes"] / span_s / ports),
        "slowdown": float((jobs["ran_s"] / jobs["ideal_run_s"]).mean()),
    }


def compare(
    over: float, rate_per_s: float, seeds: int, span_s: float = SPAN_S
) -> dict[str, dict[str, float]]:
    """Return the mean of each number over seeds, by fidelity."""
    found = {}
    for fidelity in ("fluid", "flow"):
        env = gym.make("gpuyard/Cluster-v0", scenario=scenario(over, rate_per_s, fidelity, span_s))
        runs = [play(env.unwrapped, seed) for seed in range(seeds)]
        found[fidelity] = {name: float(np.mean([run[name] for run in runs])) for name in runs[0]}
    return found


def main() -> None:
    """Print a row per oversubscription and rate."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--rates", default="0.1,4,8,12")
    options = parser.parse_args()
    rates = [float(rate) for rate in options.rates.split(",")]
    errors: dict[str, dict[str, float]] = {}
    print(
        "requests/s  load of NICs  gangs slower  flow: TTFT, transfer, JCT, s     fluid, error in %"
    )
    for over, rate in itertools.product((4.0, 8.0), rates):
        found = compare(over, rate, options.seeds)
        fluid, flow = found["fluid"], found["flow"]
        row = {name: round(fluid[name] / flow[name] - 1, 4) for name in NUMBERS}
        errors[f"{over:g}:1 {rate:g}"] = row
        print(
            f"{over:.0f}:1 {rate:6g} {flow['load']:12.1%} {flow['slowdown'] - 1:13.1%}   "
            + "".join(f"{flow[name]:9.3f}" for name in NUMBERS)
            + "   "
            + "".join(f"{100 * row[name]:+7.1f}" for name in NUMBERS),
            flush=True,
        )
    print(json.dumps(errors))


if __name__ == "__main__":
    main()
