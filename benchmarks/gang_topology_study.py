"""Gang and topology, on and off, for a service on a busy cluster: nodes fail, or it comes late.

    python benchmarks/gang_topology_study.py                       # 4 seeds of 12 and of 8 cells
    python benchmarks/gang_topology_study.py --only asked          # the 8 alone
    python benchmarks/gang_topology_study.py --plot docs/images/gang_topology.png

Prefill and decode replicas of one service, in the form that Dynamo deploys, stand on 64 H100 beside
training jobs, and nodes fail. Gang "on": all six start and end together (Grove's base gang with no
termination delay); "delayed": what a failure leaves goes on for 10 minutes; "off": each by itself.
Topology: KAI's levels, or spread over nodes as kube-scheduler's default scores do. By load of
training, uplinks 8:1. Prints objectives met, TTFT and TPOT, GPU hours held while a role was
missing, and the jobs' completion time; the last line is JSON. NVIDIA's blog on multi-node
scheduling (Run:ai v2.23 with Dynamo) says what to expect.

Then the same service is asked for half an hour late, when jobs have filled the whole cluster, and
no node fails. Further numbers: seconds from then until both roles serve, and GPU hours that one
role held while the other had no GPU at all.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from itertools import product
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from playing import begin  # noqa: E402

from gpuyard.envs.engine.serving.records import DRAINING, SERVING, STARTING  # noqa: E402
from gpuyard.envs.scenario import Scenario, from_dict  # noqa: E402
from gpuyard.evaluation.requests import attained, request_latencies  # noqa: E402

GANG = ("on", "delayed", "off")
TOPOLOGY = {"on": "topology/kai", "off": "topology/kubernetes-spread"}
LOADS = (0.4, 0.9)
LATE_LOADS = (0.9, 1.2)
REPLICAS, TP, GPUS = 3, 4, 64
HOLDING = (STARTING, SERVING, DRAINING)
LENGTH_S, JOB_S, DELAY_S, LATE_S = 1800.0, (120.0, 900.0), 600.0, 1800.0
NUMBERS = ("slo_percent", "ttft_s", "tpot_s", "held_gpu_h", "jct_s")
LATE_NUMBERS = ("slo_percent", "ttft_s", "tpot_s", "until_served_s", "alone_gpu_h", "jct_s")


def jobs(load: float, seed: int, path: Path, late_s: float) -> None:
    """Write a job list: arrivals at random that offer ``load`` of what the service leaves.

    Of the whole cluster where the service comes ``late_s`` later.
    """
    rng = np.random.default_rng(seed)
    rows, now_s, free = [], 0.0, GPUS - (2 * REPLICAS * TP if late_s == 0 else 0)
    while now_s < LENGTH_S + late_s:
        gpus, duration_s = int(rng.choice([1, 2, 4, 8, 16])), rng.uniform(*JOB_S)
        rows.append((now_s, gpus, duration_s))
        now_s += rng.exponential(gpus * duration_s / (load * free))
    lines = [f"{at_s:.3f},{gpus},{lasts_s:.3f},ResNet-50" for at_s, gpus, lasts_s in rows]
    path.write_text("\n".join(["arrival_s,gpus,duration_s,profile", *lines]))


def scenario(gang: str, load: float, seed: int, folder: Path, late_s: float = 0.0) -> Scenario:
    """Return the world: four leafs of two nodes, each failing about once an hour if not late."""
    path = folder / "jobs.csv"
    jobs(load, seed, path, late_s)
    least = 0 if gang == "off" else REPLICAS
    role = {"min": least, "initial": REPLICAS, "max": REPLICAS}
    return from_dict(
        {
            "cluster": {
                "pools": [{"gpu": "H100-SXM", "nodes": GPUS // 8, "nodes_per_leaf": 2}],
                "fabric": {"oversubscription": 8.0},
            },
            "jobs": {"trace": str(path), "num_jobs": 0},
            "faults": {"node_mtbf_h": 0.0 if late_s else 1.0, "repair_h": 0.1},
            "deployments": [
                {
                    "name": "assistant",
                    "gpu": "H100-SXM",
                    "model": "Llama-3-70B",
                    "dtype": "fp8",
                    "tp": TP,
                    "asked_at_s": late_s,
                    "handover": "seeded",
                    "termination_delay_s": DELAY_S if gang == "delayed" else 0.0,
                    "roles": [{"kind": kind, **role} for kind in ("prefill", "decode")],
                    "workload": {
                        "preset": "mooncake-conv",
                        "num_requests": int(LENGTH_S * 2),
                        "rate_per_s": 2.0,
                        "max_tokens": 32768,
                    },
                }
            ],
            "scaler": {"interval_s": 0.0},
            "slo": {"ttft_s": 5.0, "tpot_s": 0.05},
        },
        "gang-topology",
    )


def play(world: Scenario, topology: str, seed: int) -> dict[str, float]:
    """Return the numbers of one episode."""
    policy = f"compose:routing/least-requests+{TOPOLOGY[topology]}+scaling/fixed"
    env, player, observation, _ = begin(policy, world, [seed], seed)
    phase = env.unwrapped._world.state["replicas"]["phase"][0]
    held_gpu_s, alone_gpu_s, served_s, before_s, done = 0.0, 0.0, np.inf, 0.0, False
    while not done:
        by_role = phase.reshape(2, REPLICAS)
        has_gpus = np.isin(by_role, HOLDING)
        gpus, serves = int(has_gpus.sum()) * TP, bool((by_role == SERVING).any(axis=1).all())
        is_alone = not has_gpus.any(axis=1).all()
        served_s = min(served_s, before_s) if serves else served_s
        observation, _, terminated, truncated, info = env.step(player.act(observation))
        passed_s = float(info["time_s"][0]) - before_s
        held_gpu_s += 0 if serves else gpus * passed_s
        alone_gpu_s += gpus * passed_s if is_alone else 0
        before_s, done = before_s + passed_s, bool(terminated[0] | truncated[0])
    tables = env.results(0)
    env.close()
    requests, trained = tables["requests"], tables["jobs"]
    latencies = request_latencies(requests)
    return {
        "slo_percent": 100 * float(attained(requests, world.slo).mean()),
        "ttft_s": float(np.nanmean(latencies["ttft"])),
        "tpot_s": float(np.nanmean(latencies["tpot"])),
        "held_gpu_h": held_gpu_s / 3600,
        "alone_gpu_h": alone_gpu_s / 3600,
        "until_served_s": served_s - world.services[0].asked_at_s,
        "jct_s": float(np.nanmean(trained["finish_s"] - trained["arrival_s"])),
    }


def plot(found: dict[str, dict[str, float]], path: Path) -> None:
    """Draw each number by load, one bar per combination of gang and topology."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(NUMBERS), figsize=(15, 4), layout="constrained")
    for axis, number in zip(axes, NUMBERS, strict=True):
        for k, (gang, topology) in enumerate(product(GANG, TOPOLOGY)):
            values = [found[key(gang, topology, load)][number] for load in LOADS]
            label = f"gang {gang}, topology {topology}"
            axis.bar(np.arange(len(LOADS)) + 0.14 * k, values, 0.14, label=label)
        axis.set(title=number)
        axis.set_xticks(np.arange(len(LOADS)) + 0.35, [f"load {load:g}" for load in LOADS])
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=6)
    figure.savefig(path, dpi=120)


def key(gang: str, topology: str, load: float) -> str:
    """Return the name of a cell."""
    return f"gang {gang}, topology {topology}, load {load:g}"


def table(
    loads: tuple[float, ...],
    gangs: tuple[str, ...],
    numbers: tuple[str, ...],
    seeds: int,
    late_s: float,
) -> dict[str, dict[str, float]]:
    """Print a row per cell; return the means over the seeds."""
    found: dict[str, dict[str, float]] = {}
    print(f"| cell | {' | '.join(numbers)} |\n|---|" + "---:|" * len(numbers))
    with tempfile.TemporaryDirectory() as folder:
        for load, gang, topology in product(loads, gangs, TOPOLOGY):
            played = [
                play(scenario(gang, load, seed, Path(folder), late_s), topology, seed)
                for seed in range(seeds)
            ]
            mean = {name: float(np.mean([p[name] for p in played])) for name in numbers}
            found[key(gang, topology, load)] = mean
            cells = " | ".join(f"{mean[name]:.4g}" for name in numbers)
            print(f"| {key(gang, topology, load)} | {cells} |", flush=True)
    return found


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--only", choices=("failures", "asked"), help="one of the two tables")
    parser.add_argument("--plot", type=Path, help="PNG to write, of the table of failures")
    options = parser.parse_args()
    found = {}
    if options.only != "asked":
        found["failures"] = table(LOADS, GANG, NUMBERS, options.seeds, 0.0)
        if options.plot:
            plot(found["failures"], options.plot)
    if options.only != "failures":
        found["asked"] = table(LATE_LOADS, ("on", "off"), LATE_NUMBERS, options.seeds, LATE_S)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
