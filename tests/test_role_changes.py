"""Replicas that change their role: what they keep, how long it takes, and who may."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cluster_worlds import GPUS_PER_NODE, apart, fail_at, make, service, small

from gpuyard import baselines
from gpuyard.envs.engine.serving.records import (
    DRAINING,
    OFF,
    QUEUED,
    SERVING,
    STARTING,
    TURNING,
)
from gpuyard.envs.scenario import ScenarioError
from gpuyard.envs.scenario.services import turns

ROLES = [{"kind": "prefill", "initial": 2, "max": 2}, {"kind": "decode", "max": 2}]
"""Two prefill replicas, of which the second may become the second decode replica."""
TO_DECODE, TO_PREFILL = 5, 6
"""Rows of the two changes, behind keeping and the rows of two roles."""


def world(**changes: Any) -> Any:
    """Return a service with those roles that changes one in 2 s."""
    workload = {"preset": "azure-code", "num_requests": 160, "rate_per_s": 8.0}
    changes = {"roles": ROLES, "role_change_s": 2.0, "workload": workload, **changes}
    return make(small(apart("chat", **changes), name="turns"))


ENV = world()


def phases(env: Any) -> list[int]:
    return env._world.state["replicas"]["phase"][0].tolist()


def gpus(env: Any, replica: int) -> list[int]:
    """Return the GPUs of a replica whose gang is its own."""
    gang = env._world.shared["replica_specs"]["gang"][replica]
    return np.flatnonzero(env._world.state["gpu_owner"][0] == gang).tolist()


def until(env: Any, holds: Any) -> None:
    """Route at random, place what can be placed, keep replicas as they are, until then."""
    rng = np.random.default_rng(0)
    for _ in range(3000):
        if holds(env):
            return
        feasible = np.flatnonzero(env.action_masks())
        due = int(env._world.clock["due"][0])
        env.step(int(rng.choice(feasible) if due == 0 else feasible[0]))
    raise AssertionError("that moment never came")


def scales(env: Any) -> bool:
    return int(env._world.clock["due"][0]) == 2


def is_ready(env: Any) -> bool:
    return scales(env) and phases(env) == [SERVING, SERVING, SERVING, OFF]


def to_finish(env: Any) -> int:
    replica = env._world.state["replicas"][0, 1]
    return int(replica["in_flight"] + replica["holding"])


def begin(env: Any, seed: int = 1) -> None:
    """Play to a scale decision at which both prefill replicas serve, the second one busily."""
    env.reset(seed=seed)
    until(env, lambda env: is_ready(env) and to_finish(env) > 0)


def test_a_replica_drains_and_goes_on_in_the_other_role_on_its_devices():
    env = ENV
    begin(env)
    assert env.action_masks()[[TO_DECODE, TO_PREFILL]].tolist() == [True, False]
    held = gpus(env, 1)
    env.step(TO_DECODE)
    assert phases(env) == [SERVING, DRAINING, SERVING, TURNING]
    assert env._world.state["replicas"]["heir"][0, 1] == 3 and gpus(env, 1) == held
    drained_s = None

    def turned(env: Any) -> bool:
        nonlocal drained_s
        if phases(env)[1] == OFF and drained_s is None:
            assert phases(env)[3] == STARTING and gpus(env, 3) == held and not gpus(env, 1)
            drained_s = float(env._world.state["jobs"]["start_s"][0, 2])
        return phases(env)[3] == SERVING

    until(env, turned)
    assert drained_s is not None and gpus(env, 3) == held and len(held) == 1
    ready_s = float(env._world.state["replicas"]["ready_s"][0, 3])
    assert ready_s == pytest.approx(drained_s + 2.0), "not the 5 s of a start"
    assert env._world.clock["now_s"][0] >= ready_s
    assert env._info()["turns"] == 1


def test_an_idle_replica_turns_at_once_where_a_change_takes_no_time():
    env = world(role_change_s=0.0)
    env.reset(seed=1)
    until(env, lambda env: is_ready(env) and to_finish(env) == 0)
    held = gpus(env, 1)
    env.step(TO_DECODE)
    assert phases(env) == [SERVING, OFF, SERVING, SERVING] and gpus(env, 3) == held


def test_neither_role_leaves_its_bounds():
    """The base gang stays as it is, and a role that has all that it may takes no more."""
    env = ENV
    begin(env)
    env.step(TO_DECODE)
    until(env, lambda env: scales(env) and phases(env)[3] == SERVING)
    assert phases(env) == [SERVING, OFF, SERVING, SERVING]
    masks = env.action_masks()
    assert not masks[TO_DECODE], "prefill has its least, decode all that it may"
    assert masks[TO_PREFILL]
    held = gpus(env, 3)
    env.step(TO_PREFILL)
    until(env, lambda env: phases(env)[1] == SERVING)
    assert gpus(env, 1) == held, "and back"


def test_a_row_of_a_change_says_what_it_costs():
    env = ENV
    begin(env)
    rows = env._world.first_observation(env._outputs)

    def read(name: str, row: int) -> float:
        return float(env.layout.read(rows, "candidates", f"scale.{name}")[row])

    assert read("is_turn", TO_DECODE) == 1 and read("is_add", TO_DECODE) == 0
    assert read("to_finish", TO_DECODE) == pytest.approx(to_finish(env), rel=1e-5)
    assert read("left", TO_DECODE) == pytest.approx(1, rel=1e-5)
    assert read("startup_s", TO_DECODE) == pytest.approx(2.0, rel=1e-5)
    assert read("serving", TO_DECODE) == pytest.approx(1, rel=1e-5), "of decode, which gains"


def test_a_node_that_fails_meanwhile_lets_the_heir_queue():
    """A millisecond after the change was decided, while requests are still to be finished."""
    env = ENV
    begin(env)
    env.step(TO_DECODE)
    node = gpus(env, 1)[0] // GPUS_PER_NODE
    fail_at(env, node, float(env._world.clock["now_s"][0]) + 1e-3)
    until(env, lambda env: env._world.state["gangs"]["failures"][0] > 0)
    assert phases(env)[1] == OFF and phases(env)[3] == QUEUED and not gpus(env, 1)
    assert env._world.state["replicas"]["heir"][0, 1] == -1
    until(env, lambda env: phases(env)[3] == SERVING)
    placed_s = float(env._world.state["jobs"]["start_s"][0, 2])
    ready_s = float(env._world.state["replicas"]["ready_s"][0, 3])
    assert ready_s == pytest.approx(placed_s + 5.0), "it loads as any other"


def test_only_roles_with_the_same_weights_change():
    def pairs(*roles: dict[str, Any], **changes: Any) -> list[tuple[int, int]]:
        return turns(small(apart("chat", roles=list(roles), **changes), service("code")).services)

    prefill, decode = {"kind": "prefill"}, {"kind": "decode"}
    assert pairs(prefill, decode) == [(0, 1), (1, 0)]
    assert pairs(prefill, {**decode, "max_num_seqs": 64}) == [(0, 1), (1, 0)]
    assert pairs(prefill, {**decode, "tp": 2}) == []
    assert pairs({**prefill, "dtype": "fp16"}, decode) == []
    assert turns(small(service("code"), apart("chat")).services) == [(1, 2), (2, 1)]


def test_a_bad_time_of_change_is_refused():
    with pytest.raises(ScenarioError, match="role_change_s = -1"):
        small(apart("chat", role_change_s=-1.0))


def xllm(prefill: dict[str, float], decode: dict[str, float], **turn: float) -> int:
    """Return the row that xLLM's rule takes; both changes are feasible."""
    scenario = ENV.scenario
    layout = scenario.layout
    observation = {
        "cluster": np.zeros((1, len(layout.columns("cluster"))), np.float32),
        "candidates": np.zeros((1, 7, len(layout.columns("candidates"))), np.float32),
        "action_mask": np.ones((1, 7), np.int8),
    }
    observation["cluster"][0, layout.index("cluster", "kind_scale")] = 1
    rows = {1: prefill, 3: decode, TO_DECODE: {"left": 1, **turn}, TO_PREFILL: {"left": 1, **turn}}
    for row, columns in rows.items():
        for name, value in columns.items():
            at = layout.index("candidates", f"scale.{name}")
            scale = layout.columns("candidates")[at].scale
            observation["candidates"][0, row, at] = value / (value + scale)
    policy = baselines.make("scaling/xllm")
    policy.reset(baselines.composite.ShareOfScenario(scenario, frozenset({"scale"})), 1)
    return int(policy.act(observation)[0])


def test_xllm_turns_to_decode_if_tokens_are_late_and_prefill_can_spare_one():
    """Objectives of 0.5 s and 50 ms; two of prefill may queue 0.25 s, or outnumber decode."""
    rate = ENV.scenario.services[0].roles[0].prefill_tokens_per_s(2048)
    late, early = {"tpot_s": 0.06}, {"tpot_s": 0.04}
    quick, slow = {"queued_tokens": 0.24 * rate}, {"queued_tokens": 0.26 * rate}
    two, busy = {"serving": 2}, {"to_finish": 3}
    assert xllm({**two, **quick}, {**two, **late}, **busy) == TO_DECODE
    assert xllm({**two, **quick}, {**two, **early}, **busy) == 0
    assert xllm({**two, **slow}, {**two, **late}, **busy) == 0
    assert xllm({**two, **slow}, {"serving": 1, **late}, **busy) == TO_DECODE
    assert xllm({**two, **quick}, {**two, **late}, left=0, **busy) == 0


def test_xllm_turns_a_decode_replica_that_has_nothing_to_do():
    two = {"serving": 2}
    assert xllm(two, {**two, "tpot_s": 0.04}, to_finish=0) == TO_PREFILL
    assert xllm(two, {**two, "tpot_s": 0.04}, to_finish=1) == 0
    assert xllm(two, {**two, "tpot_s": 0.04}, to_finish=0, left=0) == 0
