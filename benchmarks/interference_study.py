"""A service whose KV caches cross the fabric beside an all-to-all of training gangs.

    python benchmarks/interference_study.py                        # 4 seeds, two oversubscriptions
    python benchmarks/interference_study.py --plot docs/images/interference.png

128 H100 in four leafs, NICs of 100 Gb/s. Six prefill and six decode replicas of Llama-3-70B take
one and a half, so that KV caches cross uplinks; gangs of 16 and 32 GPUs with the pairwise
all-to-all of the vClos study train on the rest. Flows find their way by ECMP (whole flows hashed),
balanced ECMP or source routing; vClos gives gangs links of their own; "none" is a fabric without
contention, the bound. Prints the time of a transfer with the software around it, TTFT, TPOT and the
jobs' completion and run times; the last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from playing import begin  # noqa: E402

from gpuyard.envs.scenario import Scenario, from_dict  # noqa: E402
from gpuyard.evaluation.requests import request_latencies  # noqa: E402

SETUPS = {
    "none": ("topology/kai", {"fidelity": "none"}),
    "source routing": ("topology/kai", {"routing": "source"}),
    "balanced ECMP": ("topology/kai", {"routing": "balanced"}),
    "ECMP": ("topology/kai", {"routing": "ecmp", "queue_pairs": 1}),
    "vClos": ("isolation/vclos", {"routing": "source"}),
}
OVERSUBSCRIPTION = (1.0, 4.0)
NUMBERS = ("transfer_s", "ttft_s", "ttft_p99_s", "tpot_s", "jct_s", "jrt_s")


def write_jobs(path: Path, count: int = 480) -> None:
    """Write a job list that offers 60 % of the GPUs that the service leaves."""
    rng = np.random.default_rng(0)
    gpus = rng.choice([16, 32], count, p=[0.6, 0.4])
    duration_s = rng.lognormal(np.log(120.0), 0.7, count).clip(20.0, 400.0)
    free = 128 - 12 * 4
    arrival_s = np.cumsum(rng.exponential((gpus * duration_s).mean() / (0.6 * free), count))
    rows = zip(arrival_s, gpus, duration_s, strict=True)
    lines = [f"{at_s:.3f},{n},{lasts_s:.3f},vclos/Pangu/pairwise" for at_s, n, lasts_s in rows]
    path.write_text("\n".join(["arrival_s,gpus,duration_s,profile", *lines]))


def scenario(network: dict[str, Any], over: float, jobs: Path) -> Scenario:
    """Return the world with this network."""
    return from_dict(
        {
            "cluster": {
                "pools": [{"gpu": "H100-SXM", "nodes": 16, "nodes_per_leaf": 4, "nic_gbit": 100.0}],
                "fabric": {"oversubscription": over, "spines": 32, "uplinks": 32},
            },
            "network": network,
            "jobs": {"trace": str(jobs), "num_jobs": 48},
            "deployments": [
                {
                    "name": "assistant",
                    "gpu": "H100-SXM",
                    "model": "Llama-3-70B",
                    "dtype": "fp8",
                    "tp": 4,
                    "handover": "seeded",
                    "connector": "mooncake",
                    "roles": [
                        {"kind": kind, "min": 6, "max": 6, "startup_s": 0.0}
                        for kind in ("prefill", "decode")
                    ],
                    "workload": {
                        "preset": "mooncake-conv",
                        "num_requests": 3000,
                        "rate_per_s": 5.0,
                        "max_tokens": 32768,
                    },
                }
            ],
            "scaler": {"interval_s": 0.0},
            "slo": {"ttft_s": 5.0, "tpot_s": 0.05},
        },
        "interference",
    )


def measured(
    place: str, network: dict[str, Any], over: float, jobs: Path, seeds: int
) -> dict[str, float]:
    """Return the mean of each number over held-out seeds, played side by side."""
    world = scenario(network, over, jobs)
    policy = f"compose:routing/least-requests+{place}+scaling/fixed"
    env, player, observation, _ = begin(policy, world, range(seeds))
    done = np.zeros(seeds, bool)
    while not done.all():
        observation, _, terminated, truncated, _ = env.step(player.act(observation))
        done |= terminated | truncated
    found = [numbers(env.results(i)) for i in range(seeds)]
    mean = {name: float(np.mean([f[name] for f in found])) for name in found[0]}
    fleet = env.unwrapped._world.state["fleet"]
    mean["transfer_s"] = float((fleet["moving_s"] / fleet["moves"]).mean())
    env.close()
    return mean


def numbers(tables: dict[str, dict[str, NDArray[Any]]]) -> dict[str, float]:
    """Return the numbers of one episode, of the whole of it."""
    latencies, jobs = request_latencies(tables["requests"]), tables["jobs"]
    return {
        "ttft_s": float(np.nanmean(latencies["ttft"])),
        "ttft_p99_s": float(np.nanpercentile(latencies["ttft"], 99)),
        "tpot_s": float(np.nanmean(latencies["tpot"])),
        "jct_s": float(np.nanmean(jobs["finish_s"] - jobs["arrival_s"])),
        "jrt_s": float(np.nanmean(jobs["ran_s"])),
    }


def plot(found: dict[str, dict[str, float]], path: Path) -> None:
    """Draw each number over its value without contention, by routing and oversubscription."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(OVERSUBSCRIPTION), figsize=(10, 3.6), layout="constrained")
    for axis, over in zip(axes, OVERSUBSCRIPTION, strict=True):
        best = found[f"none, {over:g}:1"]
        for k, name in enumerate(SETUPS):
            row = found[f"{name}, {over:g}:1"]
            values = [row[number] / best[number] for number in NUMBERS]
            axis.bar(np.arange(len(NUMBERS)) + 0.16 * k, values, 0.16, label=name)
        axis.set(title=f"uplinks {over:g}:1", ylabel="over no contention", yscale="log")
        axis.set_xticks(np.arange(len(NUMBERS)) + 0.32, NUMBERS, fontsize=7)
    axes[0].legend(fontsize=7)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Print a row per network and oversubscription."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--plot", type=Path, help="PNG to write")
    options = parser.parse_args()
    found: dict[str, dict[str, float]] = {}
    print(f"| network | {' | '.join(NUMBERS)} |\n|---|" + "---:|" * len(NUMBERS))
    with tempfile.TemporaryDirectory() as folder:
        jobs = Path(folder) / "jobs.csv"
        write_jobs(jobs)
        for over, (name, (place, network)) in product(OVERSUBSCRIPTION, SETUPS.items()):
            row = measured(place, network, over, jobs, options.seeds)
            found[f"{name}, {over:g}:1"] = row
            cells = " | ".join(f"{row[number]:.4g}" for number in NUMBERS)
            print(f"| {name}, {over:g}:1 | {cells} |", flush=True)
    if options.plot:
        plot(found, options.plot)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
