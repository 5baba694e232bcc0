"""Whole episodes of every gang baseline in the world itself: no plan is refused, no gang lost."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

import gpuyard  # noqa: F401
from gpuyard import baselines

SCENARIO = """
[[cluster.pools]]
gpu = "H100-SXM"
nodes = 8
nodes_per_leaf = 4
[[cluster.pools]]
gpu = "A100-80"
nodes = 4
nodes_per_leaf = 4
[jobs]
preset = "mixed"
num_jobs = 30
load = 1.6
max_gpus = 32
max_duration_s = 20000
[[jobs.tenants]]
name = "a"
quota = 40
share = 0.5
[[jobs.tenants]]
name = "b"
share = 0.5
[scheduler]
window = 6
preemption = {preemption}
[faults]
node_mtbf_h = 40.0
repair_h = 0.5
"""


def episode(name: str, folder, preemption: bool):
    return play(name, SCENARIO.format(preemption=str(preemption).lower()), folder)


def play(name: str, scenario: str, folder, num_envs: int = 2):
    """Play an episode to its end; return its last info and the tables of jobs."""
    path = folder / "small.toml"
    path.write_text(scenario)
    env = gym.make_vec(
        "gpuyard/Placement-v0", num_envs=num_envs, scenario=path, autoreset_mode="Disabled"
    )
    policy = baselines.make(name)
    policy.reset(env.unwrapped.scenario, num_envs, 0)
    policy.attach(env)
    observation, info = env.reset(seed=5)
    ended = np.zeros(num_envs, bool)
    for _ in range(2000):
        action = policy.act(observation)
        observation, _, terminated, truncated, info = env.step(action)
        ended |= terminated | truncated
        if ended.all():
            return info, [env.unwrapped.results(e)["jobs"] for e in range(num_envs)]
    raise AssertionError("the episode does not end")


@pytest.mark.parametrize("preemption", [False, True])
@pytest.mark.parametrize("name", baselines.names("gang"))
def test_every_gang_ends_and_no_plan_is_refused(name, preemption, tmp_path):
    info, tables = episode(name, tmp_path, preemption)
    assert info["finished"].tolist() == [30, 30]
    assert info["invalid_actions"].tolist() == [0, 0]
    assert preemption or info["preemptions"].tolist() == [0, 0]
    for table in tables:
        assert (table["start_s"] >= table["arrival_s"]).all()
        assert (table["finish_s"] > table["start_s"]).all()


def test_strict_fifo_starts_in_order_of_arrival(tmp_path):
    _, tables = episode("gang/fifo", tmp_path, False)
    for table in tables:
        assert (np.diff(table["start_s"]) >= 0).all()
