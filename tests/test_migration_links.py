"""Requests that move between replicas on a cluster: over its links, and while nodes fail."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cluster_worlds import make, service, small

from gpuyard.envs.engine.core.records import MIGRATE, SCALE
from gpuyard.envs.engine.serving.move_records import LEFT
from gpuyard.envs.engine.serving.records import DRAINING, SERVING
from gpuyard.envs.perf.serving.kv_transfer import kv_transfer
from gpuyard.envs.scenario import ScenarioError

CHATS = {"preset": "chat", "num_requests": 30, "rate_per_s": 20.0, "max_tokens": 1024}


def test_a_move_takes_what_the_links_take() -> None:
    """All in one stage between two whole nodes: the pause is that of the bytes alone."""
    one = {**CHATS, "preset": "azure-conv", "num_requests": 1, "max_tokens": 2048}
    one |= {"prompt": [700] * 30, "output": [900] * 30}
    world = small(
        service("chat", tp=4, min=2, initial=2, max=2, startup_s=1.0, workload=one),
        migration={"interval_s": 0.3, "last_blocks": 1000},
        jobs={"num_jobs": 1, "rate_per_h": 1e-3, "max_gpus": 1},
        scaler={"interval_s": 0.0},
    )
    env = make(world)
    _, info = env.reset(seed=0)
    state = env._world.state
    while info["migrations"] == 0:
        due = state["clock"]["due"][0]
        feasible = np.flatnonzero(env.action_masks())
        _, _, terminated, _, info = env.step(int(feasible[0]))
        assert not terminated
    assert due == MIGRATE
    blocks, d = int(info["migrated_blocks"]), world.replicas[0].deployment
    assert blocks > 40
    alone = kv_transfer(d, d, blocks * d.block_size, "nixl", False)
    assert info["migration_pause_s"] == pytest.approx(0.02 + alone.alone_s, rel=1e-9)


def check(env: Any) -> None:
    """Whoever gives a request and whoever gets it serve, and blocks are somewhere."""
    state, specs = env._world.state, env._world.shared["replica_specs"]
    moves, replicas = state["moves"][0], state["replicas"][0]
    gives = np.flatnonzero(moves["request"] >= 0)
    assert state["mover"]["moving"][0] == len(gives) == (moves["source"] >= 0).sum()
    assert (moves["source"][moves["to"][gives]] == gives).all()
    coming = np.bincount(moves["to"][gives], minlength=len(replicas))
    np.testing.assert_array_equal(replicas["holding"], coming)
    serves = np.isin(replicas["phase"], (SERVING, DRAINING))
    assert serves[gives].all() and serves[moves["to"][gives]].all()
    assert (specs["service"][gives] == specs["service"][moves["to"][gives]]).all()
    np.testing.assert_array_equal(replicas["free_blocks"][~serves], specs["kv_blocks"][~serves])
    assert (replicas["free_blocks"] >= 0).all()
    assert state["network"]["once_running"][0] <= len(gives)


@pytest.mark.parametrize(("fidelity", "gpus"), [("fluid", 4), ("flow", 1)])
def test_nothing_is_lost_while_requests_move_and_nodes_fail(fidelity, gpus) -> None:
    """Under `flow` on nodes of one GPU: requests leave with steps whose end the network says."""
    few = {"min": 2, "initial": 3, "startup_s": 1.0, "workload": CHATS}
    world = small(
        service("chat", kv_blocks=200, **few),
        service("code", tp=2, **{**few, "max": 2, "initial": 2}),
        migration={"interval_s": 0.1, "last_blocks": 4},
        faults={"node_mtbf_h": 0.04 / gpus, "repair_h": 0.005},
        cluster={"pools": [{"gpu": "A100-80", "nodes": 24 // gpus, "gpus_per_node": gpus}]},
        network={"fidelity": fidelity},
        scaler={"interval_s": 2.0},
    )
    env = make(world)
    moved = given_up = handed_back = stopped = 0
    for seed in range(8):
        rng, done = np.random.default_rng(seed), False
        _, info = env.reset(seed=seed)
        while not done:
            check(env)
            due, feasible = env._world.state["clock"]["due"][0], np.flatnonzero(env.action_masks())
            action = rng.choice(feasible)
            if due == SCALE and rng.random() < 0.9:
                action = 0
            elif due == MIGRATE and len(feasible) > 1:
                action = rng.choice(feasible[:-1])
            _, _, done, truncated, info = env.step(int(action))
            assert not truncated
            stopped += (env._world.state["moves"]["phase"][0] >= LEFT).sum()
        assert info["route.finished"] == 60 and info["place.finished"] == 12
        ends = env.results()["requests"]
        assert (ends["finish_s"] >= ends["first_token_s"]).all()
        assert not env._world.state["router"]["in_flight"][0]
        moved, given_up = moved + info["migrations"], given_up + info["migrations_given_up"]
        handed_back += info["handed_back"]
    assert moved > 100 and given_up > 5 and handed_back > 5 and stopped > 5


def test_roles_apart_are_refused() -> None:
    roles = [{"kind": "prefill", "max": 2}, {"kind": "decode", "max": 2}]
    with pytest.raises(ScenarioError, match=r"migration\.interval_s = 1: .*apart.*leave out"):
        small(service("chat", roles=roles), migration={"interval_s": 1.0})
    with pytest.raises(ScenarioError, match=r"migration\.interval_s = 1: .*one replica"):
        small(service("chat", max=1), migration={"interval_s": 1.0})
