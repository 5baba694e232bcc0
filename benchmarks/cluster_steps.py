"""Decisions per CPU second of a joint world, beside those of its two halves alone.

    python benchmarks/cluster_steps.py
    python benchmarks/cluster_steps.py --threads 2   # wall time of the joint world by threads
    python benchmarks/cluster_steps.py --large       # one long episode of cluster-large

Work: ``make_vec`` with 64 environments of 512 H100 on a leaf-spine fabric, 64 replicas of two
deployments and 100 jobs (`fluid`), random feasible candidates, resets included. The halves are the
same replicas with the same requests (`gpuyard/Routing-v0`) and the same cluster with the same jobs
(`gpuyard/Placement-v0`), stepped in the same run. ``share_of_parts`` is the joint world's rate over
the harmonic mean of theirs. Memory is that of a process of its own with the joint world alone.

The long episode is `cluster-large` (8,192 H100, 208 replicas of three deployments) with a million
requests and 5,000 jobs at the same rates, random feasible candidates.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from stepping import random_steps_per_cpu_s, random_steps_per_s, yardstick_per_cpu_s

import gpuyard  # noqa: F401
from gpuyard.envs.scenario import Scenario, from_dict

REPLICA: dict[str, Any] = {"gpu": "H100-SXM", "model": "Llama-3-8B", "max_num_batched_tokens": 2048}
REQUESTS: dict[str, Any] = {"preset": "chat", "num_requests": 2048, "max_tokens": 8192}
RATE_PER_S = 120.0
GANGS: dict[str, Any] = {
    "cluster": {"pools": [{"gpu": "H100-SXM", "nodes": 64, "nodes_per_leaf": 8}]},
    "jobs": {"num_jobs": 100, "rate_per_h": 10_000.0, "max_gpus": 64, "max_duration_s": 60.0},
}
LARGE = Path(__file__).parents[1] / "envs" / "scenarios" / "cluster-large.toml"
MANY_REQUESTS, MANY_JOBS = 1_000_000, 5_000


def joint() -> Scenario:
    """Return 64 replicas of two deployments, half of them base gangs, beside 100 jobs."""
    half = {**REQUESTS, "num_requests": REQUESTS["num_requests"] // 2, "rate_per_s": RATE_PER_S / 2}
    row = {**REPLICA, "min": 16, "initial": 32, "max": 32, "startup_s": 1.0, "workload": half}
    services = [{**row, "name": "one"}, {**row, "name": "two"}]
    table = {**GANGS, "deployments": services, "scaler": {"interval_s": 5.0}}
    return from_dict(table, "joint")


def halves() -> dict[str, Scenario]:
    """Return the replicas with all the requests, and the cluster with the jobs."""
    workload = {**REQUESTS, "rate_per_s": RATE_PER_S}
    routing = {"replicas": [{**REPLICA, "count": 64}], "workload": workload}
    return {
        "gpuyard/Routing-v0": from_dict(routing, "replicas"),
        "gpuyard/Placement-v0": from_dict(GANGS, "jobs"),
    }


def decisions_per_cpu_s(env_id: str, scenario: Scenario, num_envs: int, steps: int) -> float:
    """Take random feasible candidates, resets included."""
    env = gym.make_vec(env_id, num_envs=num_envs, scenario=scenario, autoreset_mode="SameStep")
    return random_steps_per_cpu_s(env, steps)


def rss_mb(num_envs: int, steps: int) -> float:
    """Return the peak memory of a process of its own that steps the joint world, MB."""
    command = [sys.executable, os.path.abspath(__file__), "--memory"]
    options = [f"--envs={num_envs}", f"--steps={steps}"]
    done = subprocess.run([*command, *options], check=True, capture_output=True, text=True)
    return float(done.stdout)


def long_episode(requests: int, jobs: int) -> dict[str, float]:
    """Play one episode of `cluster-large` with as many requests and jobs, at its rates."""
    table = tomllib.loads(LARGE.read_text())
    workloads = [row["workload"] for row in table["deployments"]]
    factor = requests / sum(row["num_requests"] for row in workloads)
    for row in workloads:
        row["num_requests"] = math.ceil(factor * row["num_requests"])
    table["jobs"]["num_jobs"] = jobs
    env = gym.make_vec("gpuyard/Cluster-v0", num_envs=1, scenario=from_dict(table, LARGE.stem))
    began, shown = time.process_time(), time.monotonic()
    observation, _ = env.reset(seed=0)
    rng = np.random.default_rng(0)
    decisions, done, info = 0, False, {}
    while not done:
        draws = rng.random(observation["action_mask"].shape, np.float32)
        actions = (draws * observation["action_mask"]).argmax(axis=1)
        observation, _, terminated, truncated, info = env.step(actions)
        decisions, done = decisions + 1, bool(terminated[0] or truncated[0])
        if time.monotonic() - shown > 10:
            shown = time.monotonic()
            print(f"{info['route.finished'][0]:.0f} requests finished", file=sys.stderr)
    return {
        "decisions": decisions,
        "requests": float(info["route.finished"][0]),
        "jobs": float(info["place.finished"][0]),
        "cpu_s": time.process_time() - began,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def by_threads(num_envs: int, steps: int, runs: int, threads: int) -> dict[str, float]:
    """Return the joint world's decisions per second of wall time with one thread and several."""
    found: dict[int, list[float]] = {1: [], threads: []}
    for _ in range(runs):  # in turn
        for count, rates in found.items():
            env = gym.make_vec(
                "gpuyard/Cluster-v0",
                num_envs=num_envs,
                scenario=joint(),
                autoreset_mode="SameStep",
                num_threads=count,
            )
            random_steps_per_s(env, 2)  # compiled
            rates.append(random_steps_per_s(env, steps))
    return {f"threads_{count}": statistics.median(rates) for count, rates in found.items()}


def main() -> None:
    """Run the benchmark; the last line printed is JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=3, help="runs, the median counts (3)")
    parser.add_argument("--steps", type=int, default=1024, help="steps per run (1024)")
    parser.add_argument("--envs", type=int, default=64, help="environments (64)")
    parser.add_argument("--memory", action="store_true", help="print the peak memory in MB only")
    parser.add_argument("--threads", type=int, help="only compare one thread with so many")
    parser.add_argument("--large", action="store_true", help="only play the long episode")
    args = parser.parse_args()
    if args.large:
        print(json.dumps(long_episode(MANY_REQUESTS, MANY_JOBS)))
        return
    if args.threads:
        print(json.dumps(by_threads(args.envs, args.steps, args.runs, args.threads)))
        return
    if args.memory:
        decisions_per_cpu_s("gpuyard/Cluster-v0", joint(), args.envs, args.steps)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return
    worlds = {"gpuyard/Cluster-v0": joint(), **halves()}
    for env_id, scenario in worlds.items():
        decisions_per_cpu_s(env_id, scenario, 2, 2)  # compiled
    measured: dict[str, list[float]] = {env_id: [] for env_id in worlds}
    for _ in range(args.runs):  # in turn: the machine's speed drifts
        for env_id, scenario in worlds.items():
            rate = decisions_per_cpu_s(env_id, scenario, args.envs, args.steps)
            measured[env_id].append(rate)
    whole, *parts = (statistics.median(rates) for rates in measured.values())
    share = whole / statistics.harmonic_mean(parts)
    yardstick = statistics.median(yardstick_per_cpu_s(64, 2048) for _ in range(args.runs))
    for env_id, rates in measured.items():
        print(f"{env_id}: {statistics.median(rates):,.0f} decisions per CPU second")
    print(f"joint over the harmonic mean of both: {share:.2f}")
    print(
        f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; yardstick in "
        f"this run: {yardstick:,.0f} steps of 64 numpy CartPoles per CPU second"
    )
    memory = rss_mb(args.envs, args.steps)
    result = {"decisions_per_cpu_s": whole, "share_of_parts": share, "rss_mb": memory}
    print(json.dumps({key: round(value, 3) for key, value in result.items()}))


if __name__ == "__main__":
    main()
