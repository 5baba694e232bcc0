"""Replicas larger than a node beside training: on which links their ranks talk.

    python benchmarks/large_replicas_study.py              # 3 seeds of 12 cells

Two replicas of Llama-3.1-405B (TP16, two nodes each) serve on 64 H100 beside jobs that all-to-all,
uplinks 1:1 and 8:1. Topology: KAI's levels, which keep a replica under one leaf, or spread over
nodes as kube-scheduler's default scores do. Contention: step by step ("flow"), in the long run
("fluid"), or no flow ever meets another ("none"). Prints TTFT and TPOT of the service and the jobs'
run time; the last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from itertools import product
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from playing import begin

from gpuyard.envs.scenario import Scenario, from_dict
from gpuyard.evaluation.requests import request_latencies

TOPOLOGY = {"on": "topology/kai", "off": "topology/kubernetes-spread"}
UPLINKS, FIDELITIES = (1.0, 8.0), ("none", "fluid", "flow")
LENGTH_S, REQUESTS_PER_S = 300.0, 1.0
NUMBERS = ("ttft_s", "tpot_s", "run_s")


def jobs(seed: int, path: Path) -> None:
    """Write gangs of 8 and 16 GPUs that come every 20 s and train for 2 to 4 minutes."""
    rng = np.random.default_rng(seed)
    rows = ["arrival_s,gpus,duration_s,profile"]
    for number in range(int(LENGTH_S / 20)):
        gpus, lasts_s = int(rng.choice([8, 16])), rng.uniform(120.0, 240.0)
        rows.append(f"{20 * number},{gpus},{lasts_s:.3f},vclos/Pangu/pairwise")
    path.write_text("\n".join(rows))


def scenario(uplinks: float, fidelity: str, seed: int, folder: Path) -> Scenario:
    """Return the world: four leafs of two nodes, two of which the service could fill."""
    path = folder / "jobs.csv"
    jobs(seed, path)
    return from_dict(
        {
            "cluster": {
                "pools": [{"gpu": "H100-SXM", "nodes": 8, "nodes_per_leaf": 2}],
                "fabric": {"oversubscription": uplinks},
            },
            "jobs": {"trace": str(path), "num_jobs": 0},
            "network": {"fidelity": fidelity},
            "deployments": [
                {
                    "name": "large",
                    "gpu": "H100-SXM",
                    "model": "Llama-3.1-405B",
                    "dtype": "fp8",
                    "tp": 16,
                    "min": 0,
                    "initial": 2,
                    "startup_s": 1.0,
                    "workload": {
                        "preset": "azure-conv",
                        "num_requests": int(LENGTH_S * REQUESTS_PER_S),
                        "rate_per_s": REQUESTS_PER_S,
                    },
                }
            ],
            "scaler": {"interval_s": 0.0},
        },
        "large-replicas",
    )


def play(world: Scenario, topology: str, seed: int) -> dict[str, float]:
    """Return the numbers of one episode."""
    policy = f"compose:routing/least-requests+{TOPOLOGY[topology]}+scaling/fixed"
    env, player, observation, _ = begin(policy, world, [seed], seed)
    done = False
    while not done:
        observation, _, terminated, truncated, _ = env.step(player.act(observation))
        done = bool(terminated[0] | truncated[0])
    tables = env.results(0)
    env.close()
    latencies = request_latencies(tables["requests"])
    return {
        "ttft_s": float(np.nanmean(latencies["ttft"])),
        "tpot_s": float(np.nanmean(latencies["tpot"])),
        "run_s": float(np.nanmean(tables["jobs"]["ran_s"])),
    }


def main() -> None:
    """Print a row per cell."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    found: dict[str, dict[str, float]] = {}
    print(f"| cell | {' | '.join(NUMBERS)} |\n|---|" + "---:|" * len(NUMBERS))
    with tempfile.TemporaryDirectory() as folder:
        for uplinks, topology, fidelity in product(UPLINKS, TOPOLOGY, FIDELITIES):
            played = [
                play(scenario(uplinks, fidelity, seed, Path(folder)), topology, seed)
                for seed in range(options.seeds)
            ]
            key = f"uplinks {uplinks:g}:1, topology {topology}, contention {fidelity}"
            mean = {name: float(np.mean([p[name] for p in played])) for name in NUMBERS}
            found[key] = mean
            print(f"| {key} | {' | '.join(f'{mean[n]:.4g}' for n in NUMBERS)} |", flush=True)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
