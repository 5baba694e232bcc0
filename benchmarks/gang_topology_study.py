"""Gang and topology, on and off, for a service that starts on a busy cluster.

    python benchmarks/gang_topology_study.py                       # 4 seeds of 16 cells
    python benchmarks/gang_topology_study.py --plot docs/images/gang_topology.png

Prefill and decode replicas of one service, in the form that Dynamo deploys, are asked for on 64
H100 that training jobs hold. Gang: all six start together (base gang of Grove) or each as soon as
it can. Topology: KAI's levels, or spread over nodes as kube-scheduler's default scores do. By load
of training and oversubscription of the uplinks. Prints the time to the first token of the service,
GPU hours that replicas held before it, then TTFT and TPOT once it runs, and the jobs' completion
time; the last line is JSON. NVIDIA's blog on multi-node scheduling (Run:ai v2.23 with Dynamo) says
what to expect.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from itertools import product
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import gpuyard  # noqa: E402, F401
from gpuyard.baselines import make  # noqa: E402
from gpuyard.envs.scenario import Scenario, from_dict  # noqa: E402
from gpuyard.evaluation.requests import request_latencies  # noqa: E402

GANG, TOPOLOGY, LOADS, OVERSUBSCRIPTION = (True, False), (True, False), (0.4, 0.9), (1.0, 8.0)
PLACE = {True: "topology/kai", False: "topology/kubernetes-spread"}
REPLICAS, TP, GPUS = 3, 4, 64
LENGTH_S, BUSY_S = 1800.0, (120.0, 900.0)
NUMBERS = ("first_s", "held_gpu_h", "ttft_s", "tpot_s", "jct_s")


def jobs(load: float, seed: int, path: Path) -> None:
    """Write a job list: a full cluster at time 0, then arrivals at random that offer ``load``."""
    rng = np.random.default_rng(seed)
    rows, held = [], 0
    while held < GPUS:
        gpus = min(int(rng.choice([1, 2, 4, 8, 16])), GPUS - held)
        rows.append((0.0, gpus, rng.uniform(*BUSY_S)))
        held += gpus
    now_s, free = 0.0, GPUS - 2 * REPLICAS * TP
    while True:
        gpus, duration_s = int(rng.choice([1, 2, 4, 8, 16])), rng.uniform(*BUSY_S)
        now_s += rng.exponential(gpus * duration_s / (load * free))
        if now_s > LENGTH_S:
            break
        rows.append((now_s, gpus, duration_s))
    lines = [f"{at_s:.3f},{gpus},{lasts_s:.3f},ResNet-50,1.0" for at_s, gpus, lasts_s in rows]
    path.write_text("\n".join(["arrival_s,gpus,duration_s,profile,priority", *lines]))


def scenario(gang: bool, load: float, over: float, seed: int, folder: Path) -> Scenario:
    """Return the world: four leafs of two nodes, the service behind the jobs that are there."""
    path = folder / "jobs.csv"
    jobs(load, seed, path)
    role = {"min": REPLICAS if gang else 0, "initial": REPLICAS, "max": REPLICAS}
    return from_dict(
        {
            "cluster": {
                "pools": [{"gpu": "H100-SXM", "nodes": GPUS // 8, "nodes_per_leaf": 2}],
                "fabric": {"oversubscription": over},
            },
            "jobs": {"trace": str(path), "num_jobs": 0},
            "deployments": [
                {
                    "name": "assistant",
                    "gpu": "H100-SXM",
                    "model": "Llama-3-70B",
                    "dtype": "fp8",
                    "tp": TP,
                    "priority": 0.0,
                    "handover": "seeded",
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
        },
        "gang-topology",
    )


def play(world: Scenario, topology: bool, seed: int) -> dict[str, float]:
    """Return the numbers of one episode."""
    policy = f"compose:routing/least-requests+{PLACE[topology]}+scaling/fixed"
    player = make(policy)
    player.reset(world, 1, seed=seed)
    env: Any = gym.make_vec(
        "gpuyard/Cluster-v0", num_envs=1, scenario=world, autoreset_mode="Disabled"
    )
    player.attach(env)
    observation, info = env.reset(seed=seed)
    held_s: list[tuple[float, float]] = [(0.0, 0.0)]  # until when, how many replicas
    done = False
    while not done:
        held = float(info["serving"][0])
        observation, _, terminated, truncated, info = env.step(player.act(observation))
        held_s.append((float(info["time_s"][0]), held))
        done = bool(terminated[0] | truncated[0])
    tables = env.results(0)
    env.close()
    requests, trained = tables["requests"], tables["jobs"]
    first_s = float(np.nanmin(requests["first_token_s"]))
    until_s, replicas = np.array(held_s).T
    before = np.diff(np.minimum(until_s, first_s))
    seen = requests["arrival_s"] > LENGTH_S / 2
    latencies = request_latencies({key: np.asarray(v)[seen] for key, v in requests.items()})
    return {
        "first_s": first_s,
        "held_gpu_h": float((before * replicas[1:]).sum()) * TP / 3600,
        "ttft_s": float(np.nanmean(latencies["ttft"])),
        "tpot_s": float(np.nanmean(latencies["tpot"])),
        "jct_s": float(np.nanmean(trained["finish_s"] - trained["arrival_s"])),
    }


def plot(found: dict[str, dict[str, float]], path: Path) -> None:
    """Draw each number by cell, one bar per combination of gang and topology."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(NUMBERS), figsize=(15, 3.5), layout="constrained")
    cells = list(product(LOADS, OVERSUBSCRIPTION))
    for axis, number in zip(axes, NUMBERS, strict=True):
        for k, (gang, topology) in enumerate(product(GANG, TOPOLOGY)):
            values = [found[key(gang, topology, *cell)][number] for cell in cells]
            label = f"gang {say(gang)}, topology {say(topology)}"
            axis.bar(np.arange(len(cells)) + 0.2 * k, values, 0.2, label=label)
        axis.set(title=number)
        axis.set_xticks(np.arange(len(cells)) + 0.3, [f"{load:g}, {o:g}:1" for load, o in cells])
    axes[0].legend(fontsize=7)
    figure.supxlabel("load of training, oversubscription")
    figure.savefig(path, dpi=120)


def say(on: bool) -> str:
    """Return the word for it."""
    return "on" if on else "off"


def key(gang: bool, topology: bool, load: float, over: float) -> str:
    """Return the name of a cell."""
    return f"gang {say(gang)}, topology {say(topology)}, load {load:g}, {over:g}:1"


def main() -> None:
    """Print a row per cell."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--plot", type=Path, help="PNG to write")
    options = parser.parse_args()
    found: dict[str, dict[str, float]] = {}
    print(f"| cell | {' | '.join(NUMBERS)} |\n|---|" + "---:|" * len(NUMBERS))
    with tempfile.TemporaryDirectory() as folder:
        for load, over, gang, topology in product(LOADS, OVERSUBSCRIPTION, GANG, TOPOLOGY):
            played = [
                play(scenario(gang, load, over, seed, Path(folder)), topology, seed)
                for seed in range(options.seeds)
            ]
            mean = {name: float(np.mean([p[name] for p in played])) for name in NUMBERS}
            found[key(gang, topology, load, over)] = mean
            cells = " | ".join(f"{mean[name]:.4g}" for name in NUMBERS)
            print(f"| {key(gang, topology, load, over)} | {cells} |", flush=True)
    if options.plot:
        plot(found, options.plot)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
