"""Nothing is lost: episodes end in full or say why not, and what is left counts."""

from __future__ import annotations

import math
import os
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import InvalidAction, ResetNeeded
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from placement_worlds import make, play, small

from gpuyard.envs.observation import read
from gpuyard.envs.rules import TRUNCATED
from gpuyard.envs.scenario import Faults, Limits, Router, ScenarioError, from_dict, load

ROUTING, PLACEMENT = "gpuyard/Routing-v0", "gpuyard/Placement-v0"
WORLDS = int(os.environ.get("GPUYARD_WORLDS", "25"))  # 1000: the whole run, minutes


def actions(env, value):
    return value if not hasattr(env, "num_envs") else [value] * env.num_envs


@pytest.mark.parametrize("make_env", [gym.make, lambda *a, **k: gym.make_vec(*a, num_envs=2, **k)])
@pytest.mark.parametrize("world", [ROUTING, PLACEMENT])
def test_a_step_without_an_episode_is_refused(make_env, world: str) -> None:
    env = make_env(world).unwrapped
    fresh = env.get_state()
    with pytest.raises(ResetNeeded):
        env.step(actions(env, 0))
    env.reset(seed=0)
    observation, _ = env.set_state(fresh)
    assert observation in env.observation_space
    with pytest.raises(ResetNeeded):
        env.step(actions(env, 0))


@pytest.mark.parametrize("make_env", [gym.make, lambda *a, **k: gym.make_vec(*a, num_envs=2, **k)])
def test_actions_are_whole_numbers(make_env) -> None:
    env = make_env(ROUTING).unwrapped
    env.reset(seed=0)
    before = env.get_state()
    for odd in (1.7, 1.0, "1", True, math.nan, 2**70, None, np.float32(1), np.array([1])):
        with pytest.raises(InvalidAction, match=r"action"):
            env.step(actions(env, odd))
    after = env.get_state()
    for name in ("world", "worlds"):
        assert str(before.get(name)) == str(after.get(name))
    for fine in (1, np.int8(1), np.uint64(1), np.array(1)):
        env.step(actions(env, fine))
    _, _, _, _, info = env.step(actions(env, 99))
    assert np.all(np.asarray(info["invalid_actions"]) == 1)


@pytest.mark.parametrize("make_env", [gym.make, lambda *a, **k: gym.make_vec(*a, num_envs=2, **k)])
def test_a_state_of_another_scenario_is_refused(make_env) -> None:
    live, lagging = load("routing-default"), load("routing-default")
    lagging = replace(lagging, router=Router(signal_interval_s=0.3))  # of the same shapes
    env, other = make_env(ROUTING, scenario=live).unwrapped, make_env(ROUTING, scenario=lagging)
    env.reset(seed=0)
    other.reset(seed=1)
    before = str(env.get_state())
    for state in (other.unwrapped.get_state(), {}, None, {**env.get_state(), "outputs": ()}):
        with pytest.raises(ValueError, match="state"):
            env.set_state(state)
    assert str(env.get_state()) == before


@pytest.mark.parametrize(
    ("field", "value"), [("hold_s", 1e-9), ("hold_limit_s", 1e29), ("hold_limit_s", math.inf)]
)
def test_a_hold_moves_time(field: str, value: float) -> None:
    table = {"replicas": [{"gpu": "L40S", "model": "Llama-3-8B"}], "router": {field: value}}
    with pytest.raises(ScenarioError, match=rf"router.{field} = .* (0\.001|86400)"):
        from_dict(table)


@pytest.mark.parametrize("column", ["wait_s", "in_flight", "work_s", "step_s", "load"])
def test_a_rule_of_costs_holds_nobody_for_ever(column: str) -> None:
    env = gym.make(ROUTING, scenario="routing-burst").unwrapped
    observation, _ = env.reset(seed=0)
    for _ in range(100):
        cost = read(observation, "candidates", column)
        action = int(np.where(observation["action_mask"], -cost, -np.inf).argmax())
        assert action < env.action_space.n - 1
        observation, *_ = env.step(action)


def test_gangs_that_were_all_stopped_are_offered_again() -> None:
    env = make(small(scheduler={"preemption": True, "window": 1}))
    for seed in range(6):
        _, info = play(env, seed)
        assert info["finished"] == info["arrived"] == 40 and info["truncated_reason"] == 0


def test_a_time_limit_counts_what_is_left() -> None:
    whole = small()
    env = make(replace(whole, limits=Limits(max_time_s=3000.0)))
    observation, _ = env.reset(seed=0)
    total, ends = 0.0, False
    while not ends:  # wait as long as that is allowed: work that is delayed is paid for
        action = env.action_space.n - 2
        observation, reward, terminated, ends, info = env.step(action)
        total += float(reward)
        assert not terminated
    table = env.results()["jobs"]
    here = table["arrival_s"] <= 3000.0
    until_s = np.where(np.isfinite(table["finish_s"]), table["finish_s"], 3000.0)
    jct = (until_s - table["arrival_s"])[here]
    assert TRUNCATED[int(info["truncated_reason"])] == "max_time_s" and info["time_s"] == 3000.0
    assert info["jct_mean_s"] == pytest.approx(jct.mean())
    assert total == pytest.approx(-jct.sum())
    assert observation in env.observation_space


def test_a_time_limit_of_routing_counts_what_is_left() -> None:
    scenario = replace(load("routing-default"), limits=Limits(max_time_s=4.0))
    env = gym.make(ROUTING, scenario=scenario).unwrapped
    env.reset(seed=0)
    total, terminated, truncated = 0.0, False, False
    while not truncated:
        _, reward, terminated, truncated, info = env.step(0)
        total += float(reward)
        assert not terminated
    table = env.results()["requests"]
    here = table["arrival_s"] <= 4.0
    first_s = np.where(np.isfinite(table["first_token_s"]), table["first_token_s"], 4.0)
    assert TRUNCATED[int(info["truncated_reason"])] == "max_time_s" and info["time_s"] == 4.0
    assert info["ttft_mean_s"] == pytest.approx((first_s - table["arrival_s"])[here].mean())
    assert total == pytest.approx(-(first_s - table["arrival_s"])[here].sum())


@pytest.mark.parametrize("world", [ROUTING, PLACEMENT])
def test_used_up_decisions_lose_no_work(world: str) -> None:
    base = load("routing-default") if world == ROUTING else small()
    env = gym.make(world, scenario=replace(base, limits=Limits(max_decisions=5))).unwrapped
    env.reset(seed=0)
    steps = [env.step(0) for _ in range(5)]
    assert [step[3] for step in steps] == [False] * 4 + [True]
    info = steps[-1][4]
    assert TRUNCATED[int(info["truncated_reason"])] == "max_decisions"
    table = next(iter(env.results().values()))
    assert info["finished"] == len(table["finish_s"]) and np.isfinite(table["finish_s"]).all()


def test_a_storm_is_refused_or_ends() -> None:
    storm = {"node_mtbf_h": 0.02, "repair_h": 100.0}
    with pytest.raises(ScenarioError, match=r"32 GPUs would never finish.*up together"):
        small(faults=storm)
    with pytest.raises(ScenarioError, match="without a failure"):
        small(faults={"node_mtbf_h": 0.1, "repair_h": 0.01})
    env = make(replace(small(), faults=Faults(**storm)))
    env.reset(seed=0)
    for _ in range(10_000):
        _, _, terminated, truncated, info = env.step(0)
        if truncated:
            break
    assert not terminated and TRUNCATED[int(info["truncated_reason"])] == "stalled"


def test_optical_gangs_without_a_plan_are_refused() -> None:
    pools = [{"gpu": "H100-SXM", "nodes": 5}]
    fabric = {"nodes_per_leaf": 2, "spines": 4, "uplinks": 8, "optical": True}
    table = {
        "cluster": {"pools": pools, "fabric": fabric},
        "jobs": {"preset": "vclos", "num_jobs": 21, "load": 0.5, "max_gpus": 32},
    }
    with pytest.raises(ScenarioError, match=r"gang of 32 GPUs can never start.*max_gpus = 8"):
        from_dict(table)
    table["jobs"]["max_gpus"] = 8
    _, info = play(make(from_dict(table)), 1)
    assert info["finished"] == 21


@settings(
    max_examples=WORLDS,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
@given(
    preemption=st.booleans(),
    window=st.integers(1, 8),
    mtbf_h=st.sampled_from([0.0, 4.0, 40.0]),
    checkpoint_s=st.sampled_from([0.0, 600.0]),
    optical=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_random_worlds_lose_nothing(preemption, window, mtbf_h, checkpoint_s, optical, seed):
    fabric = {"spines": 8, "uplinks": 16, "optical": optical} if optical else {}
    scenario = small(
        cluster={
            "pools": [{"gpu": "V100-32", "nodes": 16, "gpus_per_node": 4, "nics_per_node": 4}],
            "fabric": {"nodes_per_leaf": 4, "spines": 4, "uplinks": 8, **fabric},
        },
        jobs={"num_jobs": 12},
        scheduler={"preemption": preemption, "window": window, "checkpoint_s": checkpoint_s},
        faults={"node_mtbf_h": mtbf_h, "repair_h": 0.5},
        limits={"max_decisions": 400},
    )
    env, rng = make(scenario), np.random.default_rng(seed)
    observation, info = env.reset(seed=seed)
    terminated = truncated = False
    while not (terminated or truncated):
        assert observation in env.observation_space and observation["action_mask"].any()
        jobs, gangs = env._world.state["jobs"][0], env._world.state["gangs"][0]
        assert gangs["pending"] + gangs["running"] + gangs["finished"] == gangs["arrived"]
        held = np.bincount(env.view().gpu_job[env.view().gpu_job >= 0], minlength=len(jobs))
        assert (held == np.where(jobs["status"] == 1, jobs["gpus"], 0)).all()
        action = int(rng.choice(np.flatnonzero(observation["action_mask"])))
        if rng.random() < 0.2:
            action = int(rng.integers(-3, env.action_space.n + 3))
        before = info["time_s"]
        observation, reward, terminated, truncated, info = env.step(action)
        assert np.isfinite(reward) and reward <= 0 and info["time_s"] >= before
    table = env.results()["jobs"]
    assert info["finished"] == 12 and np.isfinite(table["finish_s"]).all()
    assert (table["waited_s"] > -1e-6).all() and (table["ran_s"] > 0).all()
    again, reward, *_ = env.step(0)  # after the end
    assert again in env.observation_space and not again["candidates"].any() and reward == 0
