"""What coincides in routing: held requests and arrivals, reports and decisions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

import gpuyard  # noqa: F401
from gpuyard.envs.observation import Layout
from gpuyard.envs.scenario import from_dict, load

LAYOUT = Layout({"route"})
REPLICAS = [{"gpu": "H100-SXM", "model": "Llama-3-8B", "count": 2}]


def test_a_held_request_goes_before_an_arrival_of_the_same_moment(tmp_path: Path) -> None:
    trace = tmp_path / "two.csv"
    trace.write_text("arrival_s,prompt_tokens,output_tokens\n0.0,100,5\n0.25,900,5\n0.5,300,5\n")
    tables: dict[str, Any] = {
        "replicas": REPLICAS,
        "workload": {"trace": str(trace), "num_requests": 3},
        "router": {"hold_s": 0.25, "hold_limit_s": 0.25},
    }
    env = gym.make("gpuyard/Routing-v0", scenario=from_dict(tables, "two")).unwrapped
    age = LAYOUT.index("queue", "route.age_s")
    observation, info = env.reset(seed=0)
    observation, _, _, _, info = env.step(2)  # hold the first; both are due at 0.25 s
    assert info["time_s"] == 0.25 and info["arrived"] == 1
    assert observation["queue"][0, age] > 0.0  # the one that has waited
    observation, _, _, _, info = env.step(0)
    assert info["time_s"] == 0.25 and info["arrived"] == 2 and observation["queue"][0, age] == 0.0


def test_between_two_reports_nothing_new_is_seen() -> None:
    scenario = load("routing-lagging")
    interval_s = scenario.router.signal_interval_s
    env = gym.make("gpuyard/Routing-v0", scenario=scenario).unwrapped
    seen = [LAYOUT.index("candidates", f"route.{name}") for name in ("running", "waiting")]
    observation, info = env.reset(seed=0)
    rng, same, differ = np.random.default_rng(0), 0, 0
    for _ in range(300):
        before, at = observation["candidates"][:, seen].copy(), info["time_s"] // interval_s
        observation, _, done, _, info = env.step(int(rng.integers(len(before))))
        if done:
            break
        if info["time_s"] // interval_s == at:
            same += 1
            np.testing.assert_array_equal(observation["candidates"][:, seen], before)
        else:
            differ += int((observation["candidates"][:, seen] != before).any())
    assert same > 100 and differ > 5
