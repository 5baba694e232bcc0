"""What coincides in routing: held requests and arrivals, reports and decisions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

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


@pytest.mark.parametrize("name", ["routing-lagging", "routing-default"])
def test_between_two_reports_nothing_new_is_seen(name: str) -> None:
    env = gym.make("gpuyard/Routing-v0", scenario=name).unwrapped
    seen = [LAYOUT.index("candidates", f"route.{name}") for name in ("running", "waiting")]
    observation, info = env.reset(seed=0)
    interval_s = interval_of(env)
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


def interval_of(env: Any) -> float:
    """Return the seconds between two reports in the episode under way."""
    return float(env.get_state()["world"]["arrays"]["router"]["signal_interval_s"][0])


def test_each_episode_draws_how_old_reports_are() -> None:
    rules = load("routing-default").router
    assert (rules.signal_interval_s, rules.signal_interval_max_s) == (0.1, 0.5)
    env = gym.make("gpuyard/Routing-v0", scenario="routing-default").unwrapped
    drawn = []
    for seed in range(64):
        env.reset(seed=seed)
        drawn.append(interval_of(env))
    assert len(set(drawn)) == 64 and min(drawn) > 0.1 and max(drawn) < 0.5
    assert abs(np.mean(drawn) - 0.3) < 4 * 0.4 / np.sqrt(12 * 64)  # even on [0.1, 0.5]
    env.reset(seed=0)
    assert interval_of(env) == drawn[0]
    env.reset()
    assert interval_of(env) != drawn[0]


@pytest.mark.parametrize(("name", "interval_s"), [("routing-lagging", 0.5), ("routing-live", 0.0)])
def test_where_nothing_is_drawn_all_episodes_are_alike(name: str, interval_s: float) -> None:
    env = gym.make("gpuyard/Routing-v0", scenario=name).unwrapped
    for seed in range(3):
        env.reset(seed=seed)
        assert interval_of(env) == interval_s
