"""Stepping vector environments for the benchmarks: at random, and a yardstick of the machine.

A ratio is printed against what ran beside it only; peers' figures come from another hour or machine
and stand as they were recorded.
"""

from __future__ import annotations

import time
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray


def random_steps_per_cpu_s(env: Any, steps: int) -> float:
    """Take random feasible candidates in a SAME_STEP vector environment, resets included."""
    observation, _ = env.reset(seed=0)
    rng = np.random.default_rng(0)
    began = time.process_time()
    for _ in range(steps):
        observation, *_ = env.step(at_random(observation, rng))
    return env.num_envs * steps / (time.process_time() - began)


def random_steps_per_s(env: Any, steps: int) -> float:
    """Do the same by the clock on the wall, without the time in which candidates are drawn."""
    observation, _ = env.reset(seed=0)
    rng = np.random.default_rng(0)
    seconds = 0.0
    for _ in range(steps):
        actions = at_random(observation, rng)
        began = time.perf_counter()
        observation, *_ = env.step(actions)
        seconds += time.perf_counter() - began
    return env.num_envs * steps / seconds


def at_random(observation: Any, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return a feasible candidate of each environment."""
    draws = rng.random(observation["action_mask"].shape, np.float32)
    return (draws * observation["action_mask"]).argmax(axis=1)


def yardstick_per_cpu_s(num_envs: int, steps: int) -> float:
    """Step Gymnasium's own numpy CartPole: what the machine does at this moment."""
    env = gym.make_vec("CartPole-v1", num_envs=num_envs)
    env.reset(seed=0)
    actions = np.arange(num_envs) % 2
    began = time.process_time()
    for _ in range(steps):
        env.step(actions)
    return num_envs * steps / (time.process_time() - began)


def recorded(peers: tuple[tuple[str, str, str], ...]) -> str:
    """Return recorded figures of peers, one a line: name, figure, what it leaves out."""
    lines = [f"  {name}: {figure} ({without})" for name, figure, without in peers]
    return "\n".join(["recorded figures of peers, not of this run, so without a ratio:", *lines])
