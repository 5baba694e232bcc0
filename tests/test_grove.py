"""What Grove and KAI do with gangs of replicas: their order, their gates, and their failures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cluster_worlds import GPUS_PER_NODE, Check, apart, fail_at, make, play, service, small

from gpuyard.envs.engine.gangs.records import PENDING, RUNNING, UNSEEN
from gpuyard.envs.engine.serving.records import OFF, QUEUED, SERVING, STARTING
from gpuyard.envs.scenario import ScenarioError

LATE = {"num_jobs": 1, "rate_per_h": 0.5, "max_gpus": 1}
"""Jobs that keep out of the way."""
WORKLOAD = {"preset": "chat", "num_requests": 400, "rate_per_s": 1.0, "max_tokens": 2048}


def world(table: dict[str, Any], name: str) -> Any:
    """Return a world of one service whose replicas load in 5 s, and that nobody scales."""
    return make(small(table, name=name, jobs=LATE, scaler={"interval_s": 0.0}))


def whole_nodes(**changes: Any) -> dict[str, Any]:
    """Return a service whose replicas take a node each, two of which are its least."""
    changes = {"tp": GPUS_PER_NODE, "min": 2, "initial": 2, "max": 3, **changes}
    return service("chat", workload=WORKLOAD, **changes)


def disaggregated(**changes: Any) -> dict[str, Any]:
    """Return two prefill replicas and one decode replica as the least, of a node each."""
    roles = [{"kind": "prefill", "min": 2, "max": 3}, {"kind": "decode", "max": 2}]
    return apart("chat", tp=GPUS_PER_NODE, roles=roles, workload=WORKLOAD, **changes)


def phases(env: Any) -> list[int]:
    return env._world.state["replicas"]["phase"][0].tolist()


def now_s(env: Any) -> float:
    return float(env._world.clock["now_s"][0])


def info(env: Any, name: str) -> float:
    return float(env._info()[name])


def until(env: Any, holds: Any, place: bool = True) -> None:
    """Route to the first replica, and place what can be placed or nothing, until then."""
    for _ in range(4000):
        if holds(env):
            return
        feasible = np.flatnonzero(env.action_masks())
        waits = int(env._world.clock["due"][0]) == 1 and not place
        env.step(int(feasible[-1] if waits else feasible[0]))
    raise AssertionError("that moment never came")


def begin(env: Any, serving: list[int]) -> None:
    """Play until these replicas serve."""
    env.reset(seed=0)
    until(env, lambda env: all(phases(env)[r] == SERVING for r in serving))


def node_of(env: Any, replica: int) -> int:
    """Return the node of a replica that stands in a gang of its own."""
    gang = env._world.shared["replica_specs"]["gang"][replica]
    return int(np.flatnonzero(env._world.state["gpu_owner"][0] == gang)[0]) // GPUS_PER_NODE


def fail(env: Any, replica: int) -> float:
    """Let the node of a replica fail in a moment, for an hour; returns when."""
    at_s = now_s(env) + 1e-3
    fail_at(env, node_of(env, replica), at_s, repair_s=3600.0)
    until(env, lambda env: env._world.state["gangs"]["failures"][0] > 0, place=False)
    return at_s


def test_a_role_loads_after_the_least_of_the_one_before_serve():
    """Grove's startsAfter: 5 s of prefill, then 5 s of decode, though all have devices at once."""
    roles = [
        {"kind": "prefill", "min": 2, "max": 2},
        {"kind": "decode", "max": 1, "starts_after": "prefill"},
    ]
    env = world(apart("chat", roles=roles, workload=WORKLOAD), "in-order")
    env.reset(seed=0)
    until(env, lambda env: phases(env) == [STARTING] * 3)
    placed_s = now_s(env)
    assert env._world.state["replicas"]["ready_s"][0].tolist() == [
        placed_s + 5.0,
        placed_s + 5.0,
        np.inf,
    ]
    until(env, lambda env: phases(env)[:2] == [SERVING] * 2)
    assert phases(env)[2] == STARTING
    until(env, lambda env: phases(env)[2] == SERVING)
    assert env._world.state["replicas"]["ready_s"][0, 2] == placed_s + 10.0


@pytest.mark.parametrize(
    ("first", "second", "says"),
    [
        ("decode", "prefill", "each role waits for another"),
        ("prefill", "", "starts_after = 'prefill' of prefill must be 'decode'"),
        ("router", "", "starts_after = 'router' of prefill must be 'decode'"),
    ],
)
def test_a_start_order_without_a_first_role_is_refused(first, second, says):
    roles = [
        {"kind": "prefill", "starts_after": first},
        {"kind": "decode", "starts_after": second},
    ]
    with pytest.raises(ScenarioError, match=says):
        small(apart("chat", roles=roles))


def test_one_role_starts_after_no_other():
    with pytest.raises(ScenarioError, match="left out"):
        small(service("chat", starts_after="prefill"))


def test_a_scaled_gang_queues_once_its_base_gang_has_its_devices():
    """Grove gates the pods of a scaled gang until the base gang is scheduled."""
    env = world(whole_nodes(initial=3), "gated")
    env.reset(seed=0)
    jobs = env._world.state["jobs"][0]
    assert phases(env) == [QUEUED] * 3
    assert jobs["status"][:2].tolist() == [PENDING, UNSEEN] and jobs["gpus"][0] == 8
    env.step(int(np.flatnonzero(env.action_masks())[0]))
    assert phases(env) == [STARTING, STARTING, QUEUED]
    assert jobs["status"][:2].tolist() == [RUNNING, PENDING]


def test_a_replica_of_the_base_gang_restarts_alone_within_the_delay():
    """Grove ends nothing while the delay runs: the other replica serves on."""
    env = world(whole_nodes(termination_delay_s=30.0, staleness_grace_s=0.0), "delayed")
    begin(env, [0, 1])
    failed_s = fail(env, 1)
    assert phases(env) == [SERVING, QUEUED, OFF]
    until(env, lambda env: phases(env)[1] == STARTING)
    assert phases(env)[0] == SERVING
    until(env, lambda env: phases(env)[1] == SERVING)
    assert now_s(env) < failed_s + 30.0
    until(env, lambda env: now_s(env) > failed_s + 40.0)
    assert phases(env) == [SERVING, SERVING, OFF] and info(env, "terminations") == 0


def test_a_service_below_its_minimum_for_the_delay_begins_anew():
    """Nobody places the failed replica: after 30 s the other one ends, and both start together."""
    env = world(whole_nodes(termination_delay_s=30.0, staleness_grace_s=0.0), "terminated")
    begin(env, [0, 1])
    failed_s = fail(env, 1)
    until(env, lambda env: info(env, "terminations") == 1, place=False)
    assert now_s(env) == pytest.approx(failed_s + 30.0)
    assert phases(env) == [QUEUED, QUEUED, OFF]
    assert env._world.state["jobs"]["status"][0, :3].tolist() == [PENDING, UNSEEN, UNSEEN]
    assert not (env._world.state["gpu_owner"][0] >= 0).any(), "all devices are free"
    until(env, lambda env: phases(env)[:2] == [SERVING, SERVING])
    ready_s = env._world.state["replicas"]["ready_s"][0]
    assert ready_s[0] == ready_s[1]


def test_a_replica_that_loads_is_not_ready():
    """Placed again a second later, it would load for 5 s: too late for a delay of 4."""
    env = world(whole_nodes(termination_delay_s=4.0, staleness_grace_s=0.0), "loading")
    begin(env, [0, 1])
    failed_s = fail(env, 1)
    until(env, lambda env: phases(env)[1] != QUEUED)
    assert phases(env)[:2] == [SERVING, STARTING]
    assert env._world.state["jobs"]["start_s"][0, 2] == pytest.approx(failed_s + 1.0)
    until(env, lambda env: info(env, "terminations") == 1)
    assert now_s(env) == pytest.approx(failed_s + 4.0)


def test_a_scaled_replica_keeps_its_role_at_the_minimum():
    """Grove's example of a scaling group: 2 replicas, of which 1 must be available."""
    roles = [{"kind": "prefill", "initial": 2, "max": 2}, {"kind": "decode", "max": 1}]
    table = apart(
        "chat",
        tp=GPUS_PER_NODE,
        roles=roles,
        workload=WORKLOAD,
        termination_delay_s=30.0,
        staleness_grace_s=0.0,
    )
    env = world(table, "scaling-group")
    begin(env, [0, 1, 2])
    failed_s = fail(env, 0)
    until(env, lambda env: now_s(env) > failed_s + 40.0, place=False)
    assert phases(env) == [QUEUED, SERVING, SERVING] and info(env, "terminations") == 0


def test_kai_evicts_a_gang_that_was_stale_for_61_s_and_not_for_1_s():
    """KAI's test of two pods, both needed: one has failed, the other one runs."""
    env = world(whole_nodes(termination_delay_s=14_400.0), "stale")
    begin(env, [0, 1])
    failed_s = fail(env, 1)
    until(env, lambda env: now_s(env) > failed_s + 1.0, place=False)
    assert phases(env)[0] == SERVING and info(env, "evictions") == 0
    until(env, lambda env: info(env, "evictions") == 1, place=False)
    assert now_s(env) == pytest.approx(failed_s + 60.0)
    assert phases(env)[:2] == [QUEUED, QUEUED] and info(env, "terminations") == 0


def test_kai_evicts_all_subgroups_when_one_has_too_few():
    """KAI's test of subgroups that need 2 and 1: the one of 1 has failed, three pods go."""
    env = world(disaggregated(termination_delay_s=14_400.0), "subgroups")
    begin(env, [0, 1, 3])
    failed_s = fail(env, 3)
    until(env, lambda env: info(env, "evictions") == 1, place=False)
    assert now_s(env) == pytest.approx(failed_s + 60.0)
    assert phases(env) == [QUEUED, QUEUED, OFF, QUEUED, OFF]


def test_kai_keeps_a_gang_whose_pods_beyond_the_minimum_fail():
    """KAI's test of a subgroup that needs 2 and has 3; a scaled replica is a gang of its own."""
    env = world(whole_nodes(termination_delay_s=14_400.0, initial=3), "beyond")
    begin(env, [0, 1, 2])
    failed_s = fail(env, 2)
    until(env, lambda env: now_s(env) > failed_s + 61.0, place=False)
    assert phases(env) == [SERVING, SERVING, QUEUED] and info(env, "evictions") == 0


def test_a_base_gang_that_has_lost_all_queues_as_a_whole():
    """Both replicas stand on one node."""
    env = world(service("chat", min=2, max=2, workload=WORKLOAD, termination_delay_s=60.0), "whole")
    begin(env, [0, 1])
    assert node_of(env, 0) == node_of(env, 1)
    fail(env, 0)
    assert phases(env) == [QUEUED, QUEUED]
    assert env._world.state["jobs"]["status"][0, :3].tolist() == [PENDING, UNSEEN, UNSEEN]


@pytest.mark.parametrize("grace_s", [0.0, 2.0], ids=["grove", "kai"])
def test_nothing_is_lost_while_parts_fail(grace_s):
    """Random decisions, a failure every 12 s: all that holds elsewhere holds here."""
    roles = [
        {"kind": "prefill", "min": 2, "max": 3},
        {"kind": "decode", "min": 1, "max": 3, "starts_after": "prefill"},
    ]
    table = apart("chat", roles=roles, tp=2, termination_delay_s=6.0, staleness_grace_s=grace_s)
    env = make(
        small(
            table,
            service("code", min=2, max=3, termination_delay_s=8.0, staleness_grace_s=grace_s),
            name=f"parts-fail-{grace_s:g}",
            faults={"node_mtbf_h": 0.02, "repair_h": 0.005},
        )
    )
    ended = {"terminations": 0.0, "evictions": 0.0}
    for seed in range(6):
        found = play(env, seed, Check())
        assert found["terminated"] and found["route.finished"] == 120
        for name in ended:
            ended[name] += found[name]
    assert ended["terminations"] > 0 and (ended["evictions"] > 0) == (grace_s > 0)


def test_what_gangs_of_replicas_cost_is_what_they_hold():
    """The bill is the sum over gangs of GPUs, seconds and price, whenever a replica ends."""
    env = make(small(service("chat", initial=3), apart("code", role_change_s=1.0), name="bill"))
    rng = np.random.default_rng(0)
    env.reset(seed=0)
    done = False
    while not done:
        *_, terminated, truncated, found = env.step(
            int(rng.choice(np.flatnonzero(env.action_masks())))
        )
        done = terminated or truncated
    jobs = env._world.state["jobs"][0]
    running = jobs["status"] == RUNNING
    held_s = jobs["ran_s"] + np.where(running, now_s(env) - jobs["start_s"], 0.0)
    price = env.scenario.cluster.pools[0].gpu.price_per_h
    assert found["drains"] > 0
    assert found["cost"] == pytest.approx((held_s * jobs["gpus"]).sum() * price / 3600.0)
