"""Small scenarios as tables and files, and a walk through one."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import gymnasium as gym
import numpy as np

import gpuyard  # noqa: F401
from gpuyard.envs.scenario import Scenario
from gpuyard.ids import id_for

REPLICA = {"gpu": "A100-80", "model": "Llama-3-8B"}
BASE = {"replicas": [REPLICA], "workload": {"num_requests": 8}}
GPU = {
    "sms": 100,
    "fp16_tflops": 400,
    "bf16_tflops": 400,
    "memory_gib": 64,
    "bandwidth_gbps": 2000,
    "like": "A100-80",
    "price_per_h": 1.25,
}
MODEL = {"layers": 2, "hidden": 256, "heads": 4, "head_dim": 64, "ffn": 512, "vocab": 1000}
NAN = math.nan


def world(**changes):
    return {**copy.deepcopy(BASE), **changes}


def replica(**changes):
    return world(replicas=[REPLICA, {**REPLICA, **changes}])


def workload(**changes):
    return world(workload={"num_requests": 8, **changes})


def write(folder: Path, text: str, name: str = "mine.toml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def play(scenario: Scenario) -> dict[str, float]:
    """Run one episode with random feasible actions."""
    env = gym.make(id_for(scenario), scenario=scenario)
    rng = np.random.default_rng(0)
    obs, info = env.reset(seed=0)
    terminated = truncated = False
    while not (terminated or truncated):
        action = rng.choice(np.flatnonzero(obs["action_mask"]))
        obs, _, terminated, truncated, info = env.step(action)
    return info
