"""What the engine's techniques cost: requests per CPU second with many of them on, over none.

    python benchmarks/features.py

Replicas of Llama-3.1-8B on H100 serve the conversations of the preset `chat` in 16
environments, routed by least requests. Techniques that exclude each other are in sets of their own.
Sets take turns in one process, so that a ratio is of one hour of the machine. The last line is
JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from typing import Any

import gymnasium as gym

import gpuyard  # noqa: F401
from gpuyard import baselines
from gpuyard.envs.scenario import Scenario, from_dict

POLICY = "routing/least-requests"
NONE = "none"
COUNT = 8  # replicas
SETS: dict[str, dict[str, Any]] = {
    NONE: {},
    "ways to schedule": {
        "replica": {"scheduling_policy": "priority", "long_prefill_token_threshold": 512},
        "router": {"may_reject": True},
    },
    "speculation, in fp8": {
        "replica": {
            "speculation": {"kind": "eagle", "acceptance": [0.5, 0.9], "most_sequences": 32},
            "dtype": "fp8",
            "kv_dtype": "fp8",
        },
    },
    "tiers, adapters and deadlines": {
        "replica": {"host_kv_gb": 40.0},
        "kv_store": {"capacity_gb": 400.0, "gbps": 100.0},
        "lora": {"adapters": 64, "zipf": 1.0, "max_loras": 8, "rank": 16},
        "router": {"may_reject": True, "deadline_s": 60.0},
    },
}


def world(tables: dict[str, Any], requests: int) -> Scenario:
    """Return the replicas with a set of techniques."""
    replica = {
        "gpu": "H100-SXM",
        "model": "Llama-3.1-8B",
        "count": COUNT,
        **tables.get("replica", {}),
    }
    workload = {"preset": "chat", "num_requests": requests, "rate_per_s": 5.0 * COUNT}
    others = {name: table for name, table in tables.items() if name != "replica"}
    return from_dict({"replicas": [replica], "workload": workload, **others}, "features")


class Played:
    """A world that is stepped on, set by set.

    Args:
        scenario: the world.
        num_envs: how many of it.
    """

    def __init__(self, scenario: Scenario, num_envs: int) -> None:
        self.env: Any = gym.make_vec(
            "gpuyard/Routing-v0", num_envs=num_envs, scenario=scenario, autoreset_mode="SameStep"
        )
        self.policy = baselines.make(POLICY)
        self.policy.reset(scenario, num_envs, seed=0)
        self.observation, _ = self.env.reset(seed=0)

    def requests_per_cpu_s(self, steps: int) -> float:
        """Route so many requests in each environment."""
        began = time.process_time()
        for _ in range(steps):
            self.observation, *_ = self.env.step(self.policy.act(self.observation))
        return self.env.num_envs * steps / (time.process_time() - began)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=7, help="runs, the median counts (7)")
    parser.add_argument("--steps", type=int, default=1000, help="steps of a run (1000)")
    options = parser.parse_args()
    played = {name: Played(world(tables, 2000), 16) for name, tables in SETS.items()}
    for one in played.values():
        one.requests_per_cpu_s(options.steps)  # compiled, and full
    rates: dict[str, list[float]] = {name: [] for name in played}
    for _ in range(options.runs):
        for name, one in played.items():
            rates[name].append(one.requests_per_cpu_s(options.steps))
    result = {}
    for name, found in rates.items():
        ratios = [mine / plain for mine, plain in zip(found, rates[NONE], strict=True)]
        result[name] = round(statistics.median(ratios), 3)
        print(f"{name:32} {statistics.median(found):10,.0f} requests per CPU s, {result[name]:.2f}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
