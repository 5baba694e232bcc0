"""Decisions per CPU second of the vector environment, and how long a start takes.

    python benchmarks/env_steps.py

Work: ``make_vec`` with 64 environments of 16 replicas (Llama-3-8B on H100 and A100), conversations
with shared prefixes, random feasible actions, resets included. Gymnasium's numpy CartPole runs
beside it as the yardstick of a machine whose speed drifts. The start is measured in processes of
their own: import, make and reset with the engine's cache warm, and with an empty one.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from typing import Any

import gymnasium as gym
from stepping import random_steps_per_cpu_s, recorded, yardstick_per_cpu_s

import gpuyard  # noqa: F401
from gpuyard.envs.scenario import from_dict

PEERS = (
    (
        "llm-router-env",
        "22,700 steps per second",
        "2026, 2-core Xeon VM; latencies are sampled, nothing is simulated",
    ),
    (
        "SB3's PPO on an environment that costs nothing",
        "57,000 to 114,000 frames per second",
        "2026, 2-core Xeon VM; a bound of the learner, not a simulator",
    ),
)
START = (
    "import time; t = time.perf_counter()\n"
    "import gymnasium as gym, gpuyard\n"
    "gym.make('gpuyard/Routing-v0').reset(seed=0)\n"
    "print(time.perf_counter() - t)\n"
)
SCENARIO: dict[str, Any] = {
    "replicas": [
        {"gpu": "H100-SXM", "model": "Llama-3-8B", "count": 8, "max_num_batched_tokens": 2048},
        {"gpu": "A100-80", "model": "Llama-3-8B", "count": 8, "max_num_batched_tokens": 2048},
    ],
    "workload": {"preset": "chat", "num_requests": 512, "rate_per_s": 60.0, "max_tokens": 8192},
}


def decisions_per_cpu_s(num_envs: int, steps: int, preset: str = "chat") -> float:
    """Step random feasible actions, resets included."""
    table = {**SCENARIO, "workload": {**SCENARIO["workload"], "preset": preset}}
    env = gym.make_vec(
        "gpuyard/Routing-v0",
        num_envs=num_envs,
        scenario=from_dict(table, name="bench"),
        autoreset_mode="SameStep",
    )
    return random_steps_per_cpu_s(env, steps)


def start_s(cache: str | None = None) -> float:
    """Return the wall seconds of import, make and reset in a new process."""
    environment = dict(os.environ)
    if cache is not None:
        environment["NUMBA_CACHE_DIR"] = cache
    command = [sys.executable, "-c", START]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return float(run.stdout)


def main() -> None:
    """Run the benchmark; the last line printed is JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=5, help="runs, the median counts (5)")
    parser.add_argument("--steps", type=int, default=2048, help="steps per run")
    args = parser.parse_args()
    decisions_per_cpu_s(64, 2)  # compiled
    rate = statistics.median(decisions_per_cpu_s(64, args.steps) for _ in range(args.runs))
    print(
        f"64 environments of 16 replicas: {rate:,.0f} decisions per CPU second "
        f"({1e6 / rate:.2f} us each)"
    )
    yardstick = statistics.median(yardstick_per_cpu_s(64, args.steps) for _ in range(args.runs))
    print(
        f"yardstick in this run: {yardstick:,.0f} steps of 64 numpy CartPoles per CPU second; "
        f"ratio {rate / yardstick:.3f}"
    )
    plain = statistics.median(
        decisions_per_cpu_s(64, args.steps, "azure-conv") for _ in range(args.runs)
    )
    print(f"the same with single requests that share no prefix: {plain:,.0f}")
    for num_envs in (1, 8, 256):
        print(f"{num_envs:4d} environments: {decisions_per_cpu_s(num_envs, 1024):,.0f}")
    warm_s = statistics.median(start_s() for _ in range(args.runs))
    with tempfile.TemporaryDirectory() as folder:
        cold_s = start_s(folder)
    print(f"import, make, reset: {warm_s:.2f} s cached, {cold_s:.0f} s with the first compilation")
    print(recorded(PEERS))
    figures = {"decisions_per_cpu_s": round(rate), "start_s": round(warm_s, 2)}
    print(json.dumps({**figures, "compile_s": round(cold_s - warm_s, 1)}))


if __name__ == "__main__":
    main()
