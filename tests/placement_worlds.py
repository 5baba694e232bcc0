"""Small placement scenarios for tests, and walks through them."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

import gpuyard  # noqa: F401
from gpuyard.envs.scenario import Scenario, from_dict

PROFILES = {"VGG-16": 0.5, "BERT-large-512": 0.5}


def small(name: str = "small", **tables: dict[str, Any]) -> Scenario:
    """Return 64 V100 in 4 leafs with jobs of 1 to 32 GPUs; ``tables`` change the scenario's."""
    table: dict[str, Any] = {
        "cluster": {
            "pools": [{"gpu": "V100-32", "nodes": 16, "gpus_per_node": 4, "nics_per_node": 4}],
            "fabric": {"nodes_per_leaf": 4, "spines": 4, "uplinks": 8, "oversubscription": 2.0},
        },
        "jobs": {"num_jobs": 40, "load": 0.9, "max_gpus": 32, "profiles": PROFILES},
    }
    for key, change in tables.items():
        table[key] = {**table.get(key, {}), **change}
    return from_dict(table, name)


def make(scenario: Scenario) -> Any:
    """Return the environment itself, without wrappers."""
    return gym.make("gpuyard/Placement-v0", scenario=scenario).unwrapped


def random_action(env: Any, rng: np.random.Generator) -> int:
    """Return a feasible candidate drawn at random."""
    return int(rng.choice(np.flatnonzero(env.action_masks())))


def play(env: Any, seed: int, check: Any = None) -> tuple[float, dict[str, float]]:
    """Play an episode at random; ``check`` is called with the environment at every decision."""
    rng = np.random.default_rng(seed)
    _, info = env.reset(seed=seed)
    total, done = 0.0, False
    while not done:
        if check is not None:
            check(env)
        _, reward, done, _, info = env.step(random_action(env, rng))
        total += float(reward)
    return total, info
