"""What a decision costs by the size of the world and the fidelity of its network.

    python benchmarks/decision_cost.py

Random feasible actions in a batch of 8 environments for sizes; for fidelities one environment of
the default cluster in order of arrival, the same 40 jobs in `fluid` and in `flow`, whose cost
follows the jobs' run time: it plays every phase of every iteration. CPU time, one run each.
"""

from __future__ import annotations

import json
import time
from typing import Any

import gymnasium as gym
from stepping import random_steps_per_cpu_s, yardstick_per_cpu_s

import gpuyard  # noqa: F401
from gpuyard.baselines import make
from gpuyard.envs.scenario import Scenario, from_dict

REPLICAS, GPUS, RUN_S = (4, 16, 64), (512, 2_048, 8_192), (60.0, 240.0, 900.0, 3_600.0)


def routing(replicas: int) -> Scenario:
    """Return a pool that serves four requests a second and replica."""
    replica = {"gpu": "H100-SXM", "model": "Llama-3-8B", "count": replicas}
    workload = {"preset": "chat", "num_requests": 512, "rate_per_s": 4.0 * replicas}
    return from_dict({"replicas": [replica], "workload": workload}, f"pool-{replicas}")


def placement(num_gpus: int) -> Scenario:
    """Return a cluster with half a job for each GPU, leafs of 128 GPUs, seen leaf by leaf."""
    tables: dict[str, Any] = {
        "cluster": {"preset": "large", "num_gpus": num_gpus},
        "jobs": {"preset": "mixed", "num_jobs": num_gpus // 2, "load": 1.0},
        "observation": {"aggregate": True},
    }
    return from_dict(tables, f"cluster-{num_gpus}")


def decision_us(scenario: Scenario, steps: int = 1024) -> float:
    """Return CPU microseconds per decision, resets included."""
    env_id = "gpuyard/Placement-v0" if scenario.cluster else "gpuyard/Routing-v0"
    env = gym.make_vec(env_id, num_envs=8, scenario=scenario, autoreset_mode="SameStep")
    random_steps_per_cpu_s(env, 2)  # compiled
    return 1e6 / random_steps_per_cpu_s(env, steps)


def fidelity_us(fidelity: str, longest_s: float) -> float:
    """Return CPU microseconds per decision on jobs that run up to ``longest_s``."""
    tables: dict[str, Any] = {
        "cluster": {"preset": "default", "fabric": {"oversubscription": 4.0}},
        "jobs": {"preset": "mixed", "num_jobs": 40, "load": 1.1, "max_duration_s": longest_s},
        "network": {"fidelity": fidelity},
    }
    scenario = from_dict(tables, fidelity)
    env = gym.make_vec("gpuyard/Placement-v0", num_envs=1, scenario=scenario)
    policy = make("gang/fifo-first-fit")
    policy.reset(scenario, 1)
    observation, _ = env.reset(seed=0)
    began, decisions, done = time.process_time(), 0, False
    while not done:
        observation, _, terminated, _, _ = env.step(policy.act(observation))
        decisions, done = decisions + 1, bool(terminated[0])
    return 1e6 * (time.process_time() - began) / decisions


def main() -> None:
    """Run the benchmark; the last line printed is JSON."""
    found: dict[str, float] = {}
    for scenario in (*map(routing, REPLICAS), *map(placement, GPUS)):
        found[scenario.name] = decision_us(scenario)
        print(f"{scenario.name}: {found[scenario.name]:.1f} us a decision", flush=True)
    for longest_s in RUN_S:
        fluid, flow = (fidelity_us(name, longest_s) for name in ("fluid", "flow"))
        found[f"flow/fluid {longest_s:.0f}"] = flow / fluid
        print(
            f"runs of up to {longest_s:.0f} s: fluid {fluid:.0f} us, flow {flow:,.0f} us a "
            f"decision; ratio {flow / fluid:.0f}",
            flush=True,
        )
    cart_us = 1e6 / yardstick_per_cpu_s(8, 2048)
    print(f"yardstick in this run: {cart_us:.2f} us a step of one of 8 numpy CartPoles")
    print(json.dumps({name: round(value, 1) for name, value in found.items()}))


if __name__ == "__main__":
    main()
