"""CPU time and memory by cluster size, up to 120,000 jobs on 100,000 GPUs.

    python benchmarks/scale.py [--plot]

Work: the `large` cluster (leafs of 128 GPUs, three tiers) with 1.2 jobs per GPU at 85 % offered
load, aggregated observations, best-fit plans in order of arrival. Each size runs in a process of
its own, whose peak memory is read. The last line is JSON: jobs, CPU seconds and memory by size.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

import gpuyard  # noqa: F401
from gpuyard.envs.scenario import Scenario, from_dict

SIZES = (1_024, 4_096, 16_384, 40_960, 99_968)
JOBS_PER_GPU = 1.2
LIMIT_CPU_S, LIMIT_BYTES = 600.0, 4e9
IMAGE = Path(__file__).parents[1] / "docs" / "images" / "scale.png"


def scenario(num_gpus: int, jobs: int) -> Scenario:
    """Return the cluster with its jobs."""
    table: dict[str, Any] = {
        "cluster": {"preset": "large", "num_gpus": num_gpus},
        "jobs": {"preset": "mixed", "num_jobs": jobs, "load": 0.85},
        "observation": {"aggregate": True},
    }
    return from_dict(table, f"large-{num_gpus}")


def measure(num_gpus: int) -> dict[str, float]:
    """Run one episode in order of arrival and return its figures."""
    jobs = round(JOBS_PER_GPU * num_gpus / 1000) * 1000
    env: Any = gym.make("gpuyard/Placement-v0", scenario=scenario(num_gpus, jobs)).unwrapped
    placing = env.layout.index("candidates", "is_place")
    observation, info = env.reset(seed=0)
    began, done, shown = time.process_time(), False, time.monotonic()
    while not done:
        feasible = observation["action_mask"] * (observation["candidates"][:, placing] > 0)
        first = int(np.argmax(feasible))
        action = first if feasible[first] else env.action_space.n - 2
        observation, _, done, _, info = env.step(action)
        if time.monotonic() - shown > 10:
            shown = time.monotonic()
            print(f"{num_gpus}: {info['finished']:.0f} of {jobs} jobs", file=sys.stderr)
    return {
        "gpus": num_gpus,
        "leafs": len(env.scenario.cluster.leaf_pod),
        "jobs": int(info["finished"]),
        "cpu_s": round(time.process_time() - began, 2),
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def plot(rows: list[dict[str, float]]) -> None:
    """Draw CPU time per job over the number of leafs, beside a line that grows linearly."""
    from matplotlib.figure import Figure

    figure = Figure((6.0, 4.0), layout="constrained")
    axis = figure.subplots()
    leafs = np.array([row["leafs"] for row in rows])
    per_job = np.array([1e3 * row["cpu_s"] / row["jobs"] for row in rows])
    axis.loglog(leafs, per_job, "o-", label="measured")
    axis.loglog(leafs, per_job[0] * leafs / leafs[0], "--", color="0.6", label="linear in leafs")
    axis.set(xlabel="leafs", ylabel="CPU ms per job")
    axis.legend(frameon=False)
    figure.savefig(IMAGE, dpi=120)


def main() -> None:
    """Run the benchmark; the last line printed is JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--gpus", type=int, help="only this size, in this process")
    parser.add_argument("--plot", action="store_true", help=f"draw {IMAGE.name}")
    args = parser.parse_args()
    if args.gpus:
        print(json.dumps(measure(args.gpus)))
        return
    rows = []
    for size in SIZES:
        command = [sys.executable, __file__, "--gpus", str(size)]
        run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        rows.append(json.loads(run.stdout.splitlines()[-1]))
        row = rows[-1]
        print(
            f"{row['gpus']:7,d} GPUs, {row['leafs']:4d} leafs: {row['jobs']:7,d} jobs in "
            f"{row['cpu_s']:7.1f} CPU s ({1e3 * row['cpu_s'] / row['jobs']:.2f} ms each), "
            f"{row['peak_bytes'] / 1e9:.2f} GB",
            flush=True,
        )
    growth = rows[-1]["cpu_s"] / rows[-1]["jobs"] / (rows[0]["cpu_s"] / rows[0]["jobs"])
    print(
        f"leafs grow {rows[-1]['leafs'] / rows[0]['leafs']:.0f} times, cost per job {growth:.1f} "
        f"times; bounds {LIMIT_CPU_S:.0f} CPU s and {LIMIT_BYTES / 1e9:.0f} GB at the largest"
    )
    if args.plot:
        plot(rows)
    print(json.dumps({"sizes": rows}))


if __name__ == "__main__":
    main()
