"""Requests that end unserved: refused, or expired at the router or in a replica's queue."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from engine_worlds import cost_table, engine_world, random_spec, random_stream, reference_requests
from reference_engine import Replica
from reference_kv import Served
from reference_serving import validate
from reference_steps import Result
from scenario_tables import REPLICA, world

import gpuyard  # noqa: F401
from gpuyard.envs.engine.core.records import START, STEP
from gpuyard.envs.engine.serving.refusal import EXPIRED, REJECTED, SERVED
from gpuyard.envs.observation import Layout
from gpuyard.envs.scenario import ScenarioError, from_dict

# -- in a replica's queue, against the naive reference ---------------------------------------------


class ExpiringReplica(Replica):
    """A replica that drops requests of its queue that it could admit only after their deadline."""

    def __init__(self, spec, cost, result: Result, deadline_s: float) -> None:
        super().__init__(spec, cost, result)
        self.deadline_s = deadline_s
        self.expired: list[int] = []

    def begin_step(self, start: float, seen: float) -> float:
        self.seen_s = seen
        return super().begin_step(start, seen)

    def is_late(self, seq: Served) -> bool:
        began = self.result.cached_tokens[seq.index] >= 0
        return not began and seq.request.arrival_s + self.deadline_s <= self.seen_s

    def schedule_waiting(self, now: float, budget: int) -> list[tuple[Served, int]]:
        """Admit one by one, dropping those that are late when their turn comes."""
        plan: list[tuple[Served, int]] = []
        while budget > 0 and len(self.running) < self.spec.max_num_seqs:
            while self.waiting and self.is_late(self.waiting[0]):
                self.expired.append(self.waiting.pop(0).index)
            if not self.waiting:
                break
            new = self.try_to_admit(now, self.waiting[0], budget)
            if new == 0:
                break
            plan.append((self.running[-1], new))
            budget -= new
        return plan

    def step(self, start: float, seen: float) -> float:
        """Run one step, unless all of the queue was late."""
        end = self.begin_step(start, seen)
        if not self.plan:
            return start
        self.end_step()
        return end


@pytest.mark.parametrize("features", [(), ("whole_prompt",), ("lag", "frontend")])
def test_expiry_in_the_queue_is_that_of_the_reference(features: tuple[str, ...]) -> None:
    expired = served = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        unit = int(rng.choice([0, 16, 64]))
        spec = random_spec(rng, unit, **dict.fromkeys(features, True))
        table = cost_table(rng, True, spec)
        stream = random_stream(rng, int(rng.integers(20, 50)), unit)
        deadline_s = float(rng.choice([0.05, 0.3, 1.0]))
        requests, n = reference_requests(stream), len(stream)
        validate([spec], requests, [0] * n)
        result = Result([np.nan] * n, [np.nan] * n, [-1] * n, [0] * n, [], [])
        replica = ExpiringReplica(spec, table, result, deadline_s)
        replica.run([Served(i, request) for i, request in enumerate(requests)])
        built = engine_world([spec], [table], stream, deadline_s=deadline_s)
        outputs = built.outputs()
        built.run(np.array([START]), np.zeros(1, np.int64), outputs)
        for _ in range(n):
            built.run(np.array([STEP]), np.zeros(1, np.int64), outputs)
        assert built.done[0]
        got, router = built.state["requests"][0], built.state["router"][0]
        assert np.flatnonzero(got["outcome"] == EXPIRED).tolist() == sorted(replica.expired)
        np.testing.assert_allclose(got["finish_s"], result.finish_s, rtol=1e-9)
        assert router["finished"] + router["expired"] == n and router["in_flight"] == 0
        assert not built.state["replicas"][0]["in_flight_tokens"].any()
        expired, served = expired + len(replica.expired), served + int(router["finished"])
    assert expired > 50 and served > 50


# -- at the router -------------------------------------------------------------------------------

ROUTER = {"hold_s": 0.02, "hold_limit_s": 60.0, "may_reject": True, "deadline_s": 0.5}
SLOW = {**REPLICA, "max_num_seqs": 2, "kv_blocks": 600}


def scenario(**router):
    table = world(
        replicas=[SLOW, SLOW],
        router=router,
        workload={"num_requests": 40, "rate_per_s": 40.0, "max_tokens": 2048},
    )
    table["reward"] = {"waiting": 1.0, "in_system": 0.1, "unserved": 3.0, "slo": 0.5}
    return from_dict(table)


def play(built, choose):
    """Run one episode; ``choose`` gets the observation. Returns rewards, last info, results."""
    env = gym.make("gpuyard/Routing-v0", scenario=built).unwrapped
    observation, info = env.reset(seed=0)
    total, done = 0.0, False
    while not done:
        assert env.observation_space.contains(observation)
        observation, reward, done, _, info = env.step(choose(observation))
        total += reward
    return total, info, env.results()["requests"]


def test_every_request_ends_once() -> None:
    rng = np.random.default_rng(0)
    total, info, table = play(
        scenario(**ROUTER), lambda seen: int(rng.choice(np.flatnonzero(seen["action_mask"])))
    )
    outcome = table["outcome"]
    assert info["rejected"] == (outcome == REJECTED).sum() > 0
    assert info["expired"] == (outcome == EXPIRED).sum() > 0
    assert info["finished"] == np.isfinite(table["finish_s"]).sum() > 0
    assert info["finished"] + info["rejected"] + info["expired"] == info["arrived"] == 40
    assert (np.isfinite(table["finish_s"]) == (outcome == SERVED)).all()
    unserved = info["rejected"] + info["expired"]
    assert unserved == 40 - info["finished"]
    ttft_s = (table["first_token_s"] - table["arrival_s"])[outcome == SERVED].sum()
    e2e_s = (table["finish_s"] - table["arrival_s"])[outcome == SERVED].sum()
    # what the unserved waited counts in both terms, and is all that is not seen in the table
    waited_s = -(total + ttft_s + 0.1 * e2e_s + 3.0 * unserved - 0.5 * 40 * info["slo_attainment"])
    assert 0 < waited_s / 1.1 <= unserved * 60.0


def test_held_requests_expire_when_their_hold_ends() -> None:
    """Held every 20 ms, with a deadline of 0.5 s: the look at 0.5 s or just behind it ends it."""
    _, info, table = play(scenario(**ROUTER), lambda seen: 2 if seen["action_mask"][2] else 0)
    assert info["expired"] == 40 and info["finished"] == 0 and info["slo_attainment"] == 0
    assert (table["replica"] == -1).all()


def test_refusing_all_is_over_with_the_last_arrival() -> None:
    total, info, table = play(scenario(**ROUTER), lambda seen: 3)
    assert info["rejected"] == 40 and info["time_s"] == table["arrival_s"][-1]
    assert total == -3.0 * 40


def test_a_request_that_may_not_be_refused_is_an_invalid_action() -> None:
    built = scenario(may_reject=False, deadline_s=30.0)
    env = gym.make("gpuyard/Routing-v0", scenario=built).unwrapped
    assert env.action_space.n == 2
    observation, _ = env.reset(seed=0)
    assert built.layout.read(observation, "queue", "left_s")[0] == pytest.approx(30.0, rel=1e-5)
    assert built.layout.read(observation, "queue", "has_deadline")[0] == 1.0


def test_the_row_of_refusing_is_marked_and_no_better() -> None:
    built = scenario(may_reject=True)
    env = gym.make("gpuyard/Routing-v0", scenario=built).unwrapped
    observation, _ = env.reset(seed=0)
    assert built.layout.read(observation, "candidates", "is_reject").tolist() == [0, 0, 1]
    waits = built.layout.read(observation, "candidates", "wait_s")
    assert waits[2] > 1000 * waits[:2].max()
    assert observation["action_mask"].tolist() == [1, 1, 1]


def test_columns_are_there_only_with_the_option() -> None:
    without, with_gate = from_dict(world()).layout, scenario(may_reject=True).layout
    assert without == Layout({"route"}) != with_gate
    assert with_gate.blocks == ("common", "route", "gate")


@pytest.mark.parametrize(
    ("router", "problem", "remedy"),
    [
        ({"may_reject": 1}, "router.may_reject = 1", "true or false"),
        ({"deadline_s": -1}, "router.deadline_s = -1", "from 0 to 86400"),
        ({"deadline_s": "x"}, "router.deadline_s = 'x'", "must be a number"),
    ],
)
def test_bad_rules_are_refused(router, problem: str, remedy: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        from_dict(world(router=router))
    assert problem in str(caught.value) and remedy in str(caught.value)
