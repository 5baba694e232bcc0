"""Decisions per CPU second of placement, and how fast a heuristic drives 8,192 GPUs.

    python benchmarks/placement_steps.py

Work: ``make_vec`` with 32 environments of 512 GPUs and 256 jobs that contend on a leaf-spine fabric
(`fluid`), random feasible candidates, resets included; then the 5,000-job workload of the vClos
study on 8,192 GPUs with the engine's own best-fit plan in order of arrival. The yardstick is
Gymnasium's numpy CartPole, stepped beside it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import gymnasium as gym
from stepping import random_steps_per_cpu_s, recorded, yardstick_per_cpu_s

import gpuyard  # noqa: F401
from gpuyard.baselines import make
from gpuyard.envs.scenario import Scenario, from_dict, load

PEERS = (
    ("gpu-choochoo", "16,100 to 59,800 decisions per second", "no topology, no contention"),
    ("Proximity-DRL", "3,000 decisions per second", "a static path cost, no contention"),
    ("ddls", "1.6 decisions per second on 32 nodes", "exclusive optical channels"),
    ("RapidNetSim", "0.67 jobs per second on 512 GPUs", "no interface to learn from"),
)
"""Recorded in 2026 on a 2-core Xeon VM."""


def decisions_per_cpu_s(num_envs: int, steps: int) -> float:
    """Take random feasible candidates, resets included."""
    env = gym.make_vec("gpuyard/Placement-v0", num_envs=num_envs, autoreset_mode="SameStep")
    return random_steps_per_cpu_s(env, steps)


def study(jobs: int) -> Scenario:
    """Return the isolation study's cluster and workload at its heaviest load, with ECMP."""
    table = {
        "cluster": {"preset": "vclos-8192"},
        "jobs": {"preset": "vclos", "num_jobs": jobs, "interarrival_s": 241.0},
        "network": {"queue_pairs": 1},
        "observation": {"aggregate": True},
    }
    return from_dict(table, "vclos-8192")


def run_cpu_s(scenario: Scenario, name: str = "gang/fifo-first-fit") -> float:
    """Return CPU seconds of one episode under a baseline that reads candidates."""
    env = gym.make_vec("gpuyard/Placement-v0", num_envs=1, scenario=scenario)
    policy = make(name)
    policy.reset(scenario, 1)
    began = time.process_time()
    observation, _ = env.reset(seed=0)
    done = False
    while not done:
        observation, _, terminated, _, _ = env.step(policy.act(observation))
        done = bool(terminated[0])
    return time.process_time() - began


def main() -> None:
    """Run the benchmark; the last line printed is JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=5, help="runs, the median counts (5)")
    parser.add_argument("--steps", type=int, default=512, help="steps per run")
    parser.add_argument("--jobs", type=int, default=5000, help="jobs of the 8,192-GPU run")
    args = parser.parse_args()
    gpus = load("placement-default").cluster.num_gpus
    decisions_per_cpu_s(32, 2)  # compiled
    rate = statistics.median(decisions_per_cpu_s(32, args.steps) for _ in range(args.runs))
    yardstick = statistics.median(yardstick_per_cpu_s(32, 2048) for _ in range(args.runs))
    print(
        f"{gpus} GPUs, 32 environments: {rate:,.0f} decisions per CPU second ({1e6 / rate:.1f} us "
        f"each); yardstick in this run: {yardstick:,.0f} steps of 32 numpy CartPoles; ratio "
        f"{rate / yardstick:.3f}"
    )
    cpu_s = statistics.median(run_cpu_s(study(args.jobs)) for _ in range(min(args.runs, 3)))
    print(
        f"{args.jobs} jobs on 8,192 GPUs: {cpu_s:.1f} CPU seconds, {args.jobs / cpu_s:,.0f} jobs a "
        f"second"
    )
    print(recorded(PEERS))
    figures = {"decisions_per_cpu_s": round(rate), "study_cpu_s": round(cpu_s, 2)}
    print(json.dumps({**figures, "yardstick_ratio": round(rate / yardstick, 4)}))


if __name__ == "__main__":
    main()
