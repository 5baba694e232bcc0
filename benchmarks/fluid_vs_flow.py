"""How close the fluid model of contention comes to the flow-level one, and how fast both are.

Each load is a random mix of jobs on given GPUs from given times on: rings, rail rings,
halving-doubling, all-to-all shifts and pipelines of 2 to 16 nodes, computing for most of the time
or hardly, with or without overlap. Both fidelities replay the same jobs; compared are the run
times. Prints a table and one line of JSON.

    python benchmarks/fluid_vs_flow.py [--jobs 150] [--seeds 3]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "tests"))

from network_worlds import Kind, Net, Run  # noqa: E402

from gpuyard.envs.engine.network.names import (  # noqa: E402
    BALANCED,
    ECMP,
    FLOW,
    FLUID,
    SOURCE,
)
from gpuyard.envs.perf.training.modes import CHAIN, CYCLIC, XOR  # noqa: E402

NIC = 50e9
CASES = {
    "1:1, source": {"routing": SOURCE},
    "1:1, ECMP": {"routing": ECMP},
    "1:1, ECMP, 4 queue pairs": {"routing": ECMP, "queue_pairs": 4},
    "1:1, balanced": {"routing": BALANCED},
    "2:1, ECMP": {"routing": ECMP, "uplinks": 32},
    "fast uplinks, ECMP": {"routing": ECMP, "uplinks": 16, "spines": 4, "uplink": 4 * NIC},
    "one NIC per node": {"routing": ECMP, "uplinks": 8, "spines": 8, "node": NIC},
    "rails": {"routing": ECMP, "rails": 8, "uplinks": 8, "spines": 8},
    "three tiers": {
        "routing": ECMP,
        "leafs_per_pod": 4,
        "uplinks": 32,
        "spines": 8,
        "core_uplinks": 8,
        "core": NIC,
    },
}


def net(**fields: object) -> Net:
    """Return a fabric of 512 GPUs: 8 leafs of 8 nodes of 8 GPUs."""
    usual = {"uplinks": 64, "spines": 8, "uplink": NIC, "core": NIC}
    size = {"leafs": 8, "nodes_per_leaf": 8, "gpus_per_node": 8}
    return Net(**size, nic=NIC, scale_up=8 * NIC, **(usual | fields))


def phases(rng: np.random.Generator, gpus: int) -> list[tuple[int, int, int, int, float]]:
    """Return the phases of a random collective on whole nodes of 8, a byte each in all."""
    nodes = gpus // 8
    pattern = rng.choice(["ring", "rails", "halving", "all-to-all", "pipeline", "two rings"])
    if pattern == "ring":
        found = [(gpus, 1, 1, CYCLIC, 1.0)]
    elif pattern == "rails":
        found = [(8, 1, 1, CYCLIC, 0.5), (nodes, 8, 1, CYCLIC, 0.5)]
    elif pattern == "halving" and nodes & (nodes - 1) == 0:
        rounds = nodes.bit_length() - 1
        found = [(nodes, 8, 1 << t, XOR, 0.5**t) for t in range(rounds)]
    elif pattern == "all-to-all":
        found = [(gpus, 1, 8 * k + 1, CYCLIC, 1.0) for k in range(min(nodes, 4))]
    elif pattern == "pipeline":
        found = [(nodes, 8, 1, CHAIN, 1.0), (nodes, 8, nodes - 1, CYCLIC, 0.2)]
    else:
        found = [(nodes, 8, 1, CYCLIC, 1.0), (gpus, 1, 3, CYCLIC, 0.5)]
    whole = sum(phase[4] for phase in found)
    return [(*phase[:4], phase[4] / whole) for phase in found]


def load(
    rng: np.random.Generator, num_jobs: int, iterations: int, packed: float
) -> tuple[list[Kind], np.ndarray, list[list[int]]]:
    """Return kinds, starts and GPUs of a random load on 64 nodes of 8 GPUs, about four fifths full.

    ``packed`` of the jobs get neighbouring nodes, the others any.
    """
    kinds, starts, gpus = [], [], []
    free_s = np.zeros(64)
    now_s = 0.0
    for _ in range(num_jobs):
        nodes = int(rng.choice([2, 2, 3, 4, 4, 6, 8, 8, 12, 16]))
        share = rng.beta(1.2, 2.0)  # of its communication, if nothing overlaps
        iteration_s = np.exp(rng.normal(0.0, 0.8))
        hidden_s = 0.0 if rng.random() < 0.5 else iteration_s * (1 - share) * rng.uniform(0, 0.6)
        made = [
            (*phase[:4], phase[4] * share * iteration_s * NIC) for phase in phases(rng, 8 * nodes)
        ]
        kinds.append(Kind(8 * nodes, iteration_s * (1 - share), tuple(made), hidden_s))
        now_s = max(now_s, np.sort(free_s)[nodes - 1]) + rng.exponential(0.02) * iterations
        idle = np.flatnonzero(free_s <= now_s)
        if rng.random() < packed:
            taken = idle[:nodes]
        else:
            taken = np.sort(rng.permutation(idle)[:nodes])
        free_s[taken] = now_s + 1.4 * iteration_s * iterations
        starts.append(now_s)
        gpus.append([int(8 * node + slot) for node in taken for slot in range(8)])
    return kinds, np.array(starts), gpus


def compare(fields: dict, num_jobs: int, iterations: int, seed: int) -> dict[str, np.ndarray]:
    """Return run times by fidelity, run time alone, and CPU seconds by fidelity."""
    rng = np.random.default_rng(seed)
    kinds, starts, gpus = load(rng, num_jobs, iterations, packed=0.3)
    found: dict[str, np.ndarray] = {}
    for name, fidelity in (("fluid", FLUID), ("flow", FLOW)):
        run = Run(net(fidelity=fidelity, **fields), kinds, num_jobs, seed)
        for j in range(num_jobs):
            run.set_job(j, j, iterations)
        began = time.process_time()
        begun, ended = run.replay(starts, gpus)
        found[name] = ended - begun
        found[f"{name}_cpu_s"] = np.array([time.process_time() - began])
        found["alone"] = run.jobs["alone_s"] * iterations
    return found


def main() -> None:
    """Run all cases."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=150)
    parser.add_argument("--iterations", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0, help="0 to 2 set the one constant")
    arguments = parser.parse_args()
    compare(CASES["1:1, ECMP"], 10, 10, 0)  # compiles
    print(f"{'case':26} slowdown  mean  |error| P50   P95   P95/P95  us per job  fluid     flow")
    summary = {}
    for case, fields in CASES.items():
        runs = [
            compare(fields, arguments.jobs, arguments.iterations, seed)
            for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds)
        ]
        both = {name: np.concatenate([run[name] for run in runs]) for name in runs[0]}
        fluid, flow = both["fluid"] / both["alone"], both["flow"] / both["alone"]
        error = np.abs(fluid / flow - 1)
        summary[case] = {
            "slowdown": flow.mean(),
            "mean_error": both["fluid"].sum() / both["flow"].sum() - 1,
            "p50_error": np.percentile(error, 50),
            "p95_error": np.percentile(error, 95),
            "error_of_p95": np.percentile(fluid, 95) / np.percentile(flow, 95) - 1,
            "fluid_us": both["fluid_cpu_s"].sum() / len(fluid) * 1e6,
            "flow_us": both["flow_cpu_s"].sum() / len(fluid) * 1e6,
        }
        row = summary[case]
        print(
            f"{case:26} {row['slowdown']:7.3f} {row['mean_error']:+7.2%} {row['p50_error']:9.2%}"
            f" {row['p95_error']:7.2%} {row['error_of_p95']:+7.2%}"
            f" {row['fluid_us']:14.0f} {row['flow_us']:10.0f}"
        )
    print(json.dumps({"fluid_vs_flow": {k: _rounded(v) for k, v in summary.items()}}))


def _rounded(row: dict[str, float]) -> dict[str, float]:
    return {name: float(f"{value:.4g}") for name, value in row.items()}


if __name__ == "__main__":
    main()
