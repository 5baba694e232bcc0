"""Circuits that planners set on optical fabrics, and plans that the engine refuses."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from views import PLACING, due, make_cluster, make_view

from gpuyard import baselines
from gpuyard.baselines.planner import Planner
from gpuyard.baselines.uplinks import Uplinks
from gpuyard.envs.cluster_view import Plan
from gpuyard.envs.scenario import from_dict

PLANNERS = [
    name
    for family in ("gang", "topology", "isolation")
    for name in baselines.names(family)
    if isinstance(baselines.make(name), Planner) and name != "isolation/vclos"
]
OPTICAL = {
    "cluster": {
        "preset": "default",
        "pools": [{"gpu": "H100-SXM", "nodes": 16}],
        "fabric": {
            "nodes_per_leaf": 4,
            "spines": 4,
            "uplinks": 32,
            "optical": True,
            "oversubscription": 1.0,
            "spine_ports": 32,
        },
    },
    "jobs": {"preset": "mixed", "num_jobs": 40, "load": 1.2, "max_gpus": 64},
}


@pytest.mark.parametrize("name", PLANNERS)
def test_no_plan_is_refused_on_an_optical_fabric(name):
    scenario = from_dict(OPTICAL)
    env = gym.make_vec("gpuyard/Placement-v0", num_envs=2, scenario=scenario)
    policy = baselines.make(name)
    policy.reset(scenario, 2, 0)
    policy.attach(env)
    observation, info = env.reset(seed=3)
    ended = np.zeros(2, bool)
    while not ended.all():
        observation, _, terminated, truncated, info = env.step(policy.act(observation))
        ended |= terminated | truncated
        policy.restart(terminated | truncated)
    assert policy.refused == 0 and (info["invalid_actions"] == 0).all()
    env.close()


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_circuits_use_what_is_free_and_reach_every_leaf(seed):
    rng = np.random.default_rng(seed)
    cluster = make_cluster(
        nodes=8, gpus_per_node=4, nodes_per_leaf=2, uplinks=8, spines=4, optical=True, spine_ports=8
    )
    world, free = Uplinks(cluster), rng.permutation(8)
    while len(free):
        nodes, free = np.sort(free[:3]), free[3:]
        gpus = (nodes[:, None] * 4 + np.arange(4)).ravel()
        links = world.join(gpus)
        if links is None:
            continue
        leaf, before = cluster.node_leaf[gpus // 4], world.copy()
        own = links.uplink >= 0
        pairs = list(zip(leaf[own].tolist(), links.uplink[own].tolist(), strict=True))
        assert len(set(pairs)) == len(pairs)
        assert all(before.unused[pair] for pair in pairs)
        if len(set(leaf)) > 1:
            reached = [set(links.spine[own & (leaf == each)].tolist()) for each in set(leaf)]
            assert all(spines == reached[0] and spines for spines in reached)
        world.take(gpus, links)
        assert world.ports.min() >= 0


def test_an_idle_fabric_gives_every_rank_a_circuit():
    cluster = make_cluster(
        nodes=8, gpus_per_node=4, nodes_per_leaf=2, uplinks=8, spines=4, optical=True, spine_ports=8
    )
    assert (Uplinks(cluster).join(np.arange(32)).uplink >= 0).all()
    uneven = Uplinks(cluster).join(np.arange(20))  # two leafs of 8 and half a leaf
    assert (uneven.uplink >= 0).all()


class Refusing:
    """A world of two gangs whose engine refuses every start of the first one."""

    def __init__(self):
        self.refused, self.plans, self.pending = 0, [], [{"id": 7, "gpus": 2}, {"id": 8, "gpus": 2}]

    def ask_planner(self):
        pass

    def view(self, index):
        view = make_view(self.pending, nodes=1)
        return type(view)(**{**vars(view), "refused": self.refused})

    def propose(self, index, plan: Plan):
        self.plans.append(plan.gang)
        if plan.gang == 7:
            self.refused += 1
        else:
            self.pending = self.pending[:1]
        return 3


def test_a_refused_plan_is_warned_of_counted_and_not_sent_again(monkeypatch):
    monkeypatch.setattr(Planner, "strict", False)
    world, policy = Refusing(), baselines.make("gang/easy-backfill")
    policy.reset(PLACING, 1, 0)
    policy.attach(world)
    assert policy.act(due(np.ones((1, 4)))).tolist() == [3]
    with pytest.warns(RuntimeWarning, match="refused Plan"):
        assert policy.act(due(np.ones((1, 4)))).tolist() == [3]  # the other gang has its turn
    assert policy.act(due(np.ones((1, 4)))).tolist() == [2]
    assert world.plans == [7, 8] and policy.refused == 1


def test_a_refused_plan_is_an_error_where_planners_are_strict():
    world, policy = Refusing(), baselines.make("gang/easy-backfill")
    policy.reset(PLACING, 1, 0)
    policy.attach(world)
    policy.act(due(np.ones((1, 4))))
    with pytest.raises(RuntimeError, match="refused Plan"):
        policy.act(due(np.ones((1, 4))))
