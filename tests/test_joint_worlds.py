"""A thousand joint worlds at random: nothing is lost, and each check notices what it is for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from cluster_worlds import apart, service, small
from joint_checks import JointCheck

from gpuyard.envs.engine.serving.records import MOVING, OFF, SERVING, TURNING

FAULTS = {"node_mtbf_h": 0.02, "repair_h": 0.005}  # a failure every 12 s among six nodes
PREEMPTION = {"preemption": True, "preempt_s": 2.0}
HOLDING = {"hold_s": 0.1, "signal_interval_s": 0.2}
SCENARIOS = [
    small(name="faulty", faults=FAULTS, scheduler=PREEMPTION),
    small(name="holding", router=HOLDING, faults=FAULTS),
    small(apart("chat"), service("code"), name="apart", faults=FAULTS),
    small(
        apart("chat", kv_blocks=140, handover="seeded", local_prefill_tokens=64),
        name="tight",
        faults=FAULTS,
        scheduler=PREEMPTION,
    ),
    small(service("chat", min=0, initial=0), service("code"), name="from-none"),
    small(
        service("chat", min=2, preemptibility="preemptible", termination_delay_s=6.0),
        apart("code", preemptibility="semi-preemptible"),
        name="preempted",
        scheduler={**PREEMPTION, "running_rows": 1},
    ),
]
EVENTS = {  # which must have happened, else the worlds have not shown what they are for
    "faulty": ("starts", "drains", "handed_back", "place.preemptions", "failures"),
    "holding": ("starts", "drains", "handed_back", "failures"),
    "apart": ("starts", "drains", "handed_back", "turns", "failures"),
    "tight": ("starts", "drains", "handed_back", "turns", "place.preemptions"),
    "from-none": ("starts", "drains"),
    "preempted": ("starts", "drains", "handed_back", "turns", "replicas_preempted"),
}
TOGETHER, WORLDS = 50, 200  # of each scenario: side by side, and in all
FEWER = {"preempted": 100}
BROKEN = gym.make_vec(
    "gpuyard/Cluster-v0", num_envs=2, scenario=SCENARIOS[3], autoreset_mode="SameStep"
).unwrapped


def feasible(observation: dict[str, Any], rng: np.random.Generator) -> np.ndarray:
    """Draw one feasible candidate for each world."""
    mask = observation["action_mask"]
    assert (mask.sum(1) > 0).all(), "nothing can be done"
    return (rng.random(mask.shape) * mask).argmax(1)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_nothing_is_lost_in_a_thousand_worlds(scenario):
    env = gym.make_vec(
        "gpuyard/Cluster-v0", num_envs=TOGETHER, scenario=scenario, autoreset_mode="SameStep"
    ).unwrapped
    check, rng, worlds = JointCheck(env), np.random.default_rng(0), 0
    happened = dict.fromkeys(EVENTS[scenario.name], 0.0)
    observation, _ = env.reset(seed=0)
    anew = np.ones(TOGETHER, np.bool_)
    while worlds < FEWER.get(scenario.name, WORLDS):
        check(anew)
        observation, _, anew, truncated, infos = env.step(feasible(observation, rng))
        assert not truncated.any(), "an episode did not come to its end"
        if anew.any():
            worlds += int(anew.sum())
            final = infos["final_info"]
            assert (final["route.finished"][anew] == scenario.workload.num_requests).all()
            assert (final["place.finished"][anew] == 12).all()
            for key in happened:
                happened[key] += final[key][anew].sum()
    assert all(number > 0 for number in happened.values()), happened


def first(mask: np.ndarray) -> Any:
    """Return the place in world 0 of the first that a mask (E, K) picks."""
    return 0, int(np.flatnonzero(mask[0])[0])


def moving(state: Any) -> np.ndarray:
    return (state["requests"]["stage"] == MOVING) & ~np.isfinite(state["requests"]["finish_s"])


def on(state: Any) -> np.ndarray:
    return (state["requests"]["replica"] >= 0) & ~np.isfinite(state["requests"]["finish_s"])


def held(state: Any) -> np.ndarray:
    return state["gpu_owner"] >= 0


def phase(state: Any, which: int) -> np.ndarray:
    return state["replicas"]["phase"] == which


def change(field: str, key: str | None, by: float, mask: Callable[[Any], Any] | None = None) -> Any:
    """Return what adds to a field of world 0, at the first place that a mask picks."""

    def corrupt(state: Any) -> None:
        array = state[field] if key is None else state[field][key]
        array[(first(mask(state)) if mask else (0, 0))[: array.ndim]] += by

    return corrupt


def swap(field: str, key: str | None, to: float, mask: Callable[[Any], Any]) -> Any:
    """Return what sets a field of world 0, at the first place that a mask picks."""

    def corrupt(state: Any) -> None:
        array = state[field] if key is None else state[field][key]
        array[first(mask(state))[: array.ndim]] = to

    return corrupt


def link_twice(state: Any) -> None:
    a, b = np.flatnonzero(moving(state)[0])[:2]
    state["requests"]["sender"][0, a] = state["requests"]["sender"][0, b]


def off(state: Any) -> np.ndarray:
    return phase(state, OFF)


def serving(state: Any) -> np.ndarray:
    return phase(state, SERVING)


def receiving(state: Any) -> np.ndarray:
    """Tell which replicas get a KV cache, bool (E, R)."""
    found = np.zeros(state["replicas"].shape, np.bool_)
    found[0, state["requests"]["replica"][0][moving(state)[0]]] = True
    return found


FAULTS_OF_BOOKS = {
    "time ran back": change("clock", "now_s", -1e6),
    "a finished request came back": swap("router", "finished", -1, lambda s: np.ones((1, 1), bool)),
    "part of a gang": swap("gpu_owner", None, -1, held),
    "free devices are miscounted": change("node_free", None, 1),
    "more memory than there is": change("used_memory", None, 1.5),
    "more on a link than it carries": change("link_rate", None, 1e15),
    "a gang is lost": change("gangs", "finished", 1),
    "a replica serves without devices": swap("replicas", "phase", SERVING, off),
    "a gang without its replica": swap("replicas", "phase", OFF, serving),
    "requests where nobody serves": change("replicas", "in_flight", 1, off),
    "blocks are held where nobody serves": change("replicas", "free_blocks", -1, off),
    "devices left to none, or to two": swap("replicas", "phase", TURNING, off),
    "a request is lost, or finished twice": change("router", "finished", 1),
    "a replica miscounts its requests": change("replicas", "in_flight", 1, serving),
    "a request at another service": swap("requests", "service", 7, on),
    "two transfers in one": link_twice,
    "bytes are lost on their way": change("fleet", "moved_bytes", 1e6),
    "a cache without blocks": swap("requests", "blocks", 0, moving),
    "no room kept there": change("replicas", "free_blocks", 10**6, receiving),
}


@pytest.mark.parametrize("fault", FAULTS_OF_BOOKS)
def test_each_check_notices_its_fault(fault):
    """At a moment with two transfers, a replica that is off, and one in the faulty world."""
    env = BROKEN
    check, rng = JointCheck(env), np.random.default_rng(1)
    observation, _ = env.reset(seed=3)
    anew = np.ones(env.num_envs, np.bool_)
    state = env._world.state
    for _ in range(2000):
        check(anew)
        if moving(state)[0].sum() > 1 and off(state)[0].any() and serving(state)[0].any():
            break
        observation, _, anew, _, _ = env.step(feasible(observation, rng))
    FAULTS_OF_BOOKS[fault](state)
    with pytest.raises(AssertionError, match=fault):
        check(np.zeros(env.num_envs, np.bool_))
