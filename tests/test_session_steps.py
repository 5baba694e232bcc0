"""Steps of rollouts with new weights between them, and sessions that start others: exactness."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from engine_worlds import cost_table, engine_world, random_spec, reference_requests
from reference_sessions import simulate_sessions
from reference_steps import ReplicaSpec
from session_worlds import random_sessions, rollouts_of, waits, with_forks, with_steps
from test_closed_loop_env import WORKLOAD, episode, recorded, small, turns_file
from test_session_exact import play

from gpuyard.envs.perf.serving.cost_table import COST, CostTable
from gpuyard.envs.scenario import ScenarioError, from_dict
from gpuyard.envs.workload.requests import sessions
from gpuyard.envs.workload.requests.steps import FORK, Steps
from gpuyard.envs.workload.requests.stream import RequestStream

FEATURES = ({}, {"frontend": True}, {"whole_prompt": True, "lag": True})


def both(seed: int, features: dict[str, bool], forked: bool, in_steps: bool):
    rng = np.random.default_rng(seed)
    unit = int(rng.choice([0, 16, 32]))
    specs = [random_spec(rng, unit, **features) for _ in range(int(rng.integers(1, 4)))]
    tables = [cost_table(rng, True, spec) for spec in specs]
    count = int(rng.integers(2, 5)) if in_steps else 1
    own, subs = count * int(rng.integers(2, 9)), int(rng.integers(1, 9)) if forked else 0
    stream = random_sessions(rng, own + subs, unit)
    if forked:
        stream = with_forks(rng, stream, subs)
        own = int(np.isnan(stream.think_s).sum())
        count = count if own % count == 0 else 1
    if in_steps and count > 1:
        next_at, update_s = rng.choice([1.0, 0.9, 0.5]), rng.choice([0.0, 0.01, 0.5, 3.0])
        stream = with_steps(stream, Steps(count, float(next_at), float(update_s), seed % 2 == 0))
    assignment = rng.integers(0, len(specs), len(stream))
    world = engine_world(specs, tables, stream)
    play(world, assignment)
    rollouts = rollouts_of(stream) if stream.steps else None
    requests = reference_requests(stream)
    return (
        world,
        rollouts,
        simulate_sessions(specs, tables, requests, waits(stream), list(assignment), rollouts),
    )


@pytest.mark.parametrize("features", FEATURES, ids=lambda has: "+".join(has) or "plain")
@pytest.mark.parametrize("kind", [(True, False), (False, True), (True, True)])
def test_turns_arrive_and_end_when_the_reference_says(features, kind) -> None:
    steps = stale = forked = 0
    for seed in range(6):
        world, rollouts, (expected, arrival_s) = both(seed, features, *kind)
        got, router = world.state["requests"][0], world.state["router"][0]
        np.testing.assert_allclose(got["arrival_s"], arrival_s, rtol=1e-9)
        np.testing.assert_array_equal(got["cached_tokens"], expected.cached_tokens)
        np.testing.assert_array_equal(got["preemptions"], expected.preemptions)
        np.testing.assert_allclose(got["first_token_s"], expected.first_token_s, rtol=1e-9)
        np.testing.assert_allclose(got["finish_s"], expected.finish_s, rtol=1e-9)
        assert router["unknown"] == router["due"] == 0
        assert router["sessions_ended"] == router["sessions"]
        if rollouts:
            assert router["step"] + 1 == len(rollouts.begun_s)
            assert router["stale_sessions"] == rollouts.stale
            steps, stale = steps + len(rollouts.begun_s), stale + rollouts.stale
        forked += int((got["num_forks"] > 0).sum())
    assert forked > 6 or not kind[0]
    assert (steps > 12 and stale > 1) or not kind[1]


def by_hand(rows: list[tuple[int, float, float, int]], **fields: Any):
    """Play rows of session, arrival, wait and output on an engine whose steps take a second."""
    session, arrival_s, think_s, output = map(np.array, zip(*rows, strict=True))
    n = len(rows)
    stream = RequestStream(
        arrival_s=arrival_s,
        prompt_tokens=np.full(n, 10, np.int32),
        output_tokens=output.astype(np.int32),
        max_tokens=output.astype(np.int32),
        session=session.astype(np.int32),
        prefix_offsets=np.zeros(n + 1, np.int64),
        prefix_ids=np.zeros(0, np.int32),
        prefix_block_tokens=0,
        priority=np.zeros(n, np.float32),
        think_s=think_s,
        **fields,
    )
    cost = np.zeros((), COST)
    cost["flop_per_token"], cost["peak_flops"] = 1.0, 1.0
    second = np.concatenate([[0.0], np.ones(64)])
    spec = ReplicaSpec(max_num_seqs=8, max_num_batched_tokens=64, kv_blocks=20)
    world = engine_world([spec], [CostTable(cost[()], second, np.zeros(9))], stream)
    play(world, np.zeros(n, np.int64))
    return world.state["requests"][0], world.state["router"][0]


SETS = [(0, 0.0, np.nan, 3), (1, 0.0, np.nan, 5), (2, np.nan, 0.0, 3), (3, np.nan, 0.0, 5)]
"""Two steps of two sessions, one turn each: answers of three and five tokens."""


@pytest.mark.parametrize(
    ("steps", "finish_s", "stale"),
    [
        # answers at 3 and 5; weights from 5 to 15
        (Steps(2, 1.0, 10.0), [3, 5, 18, 20], 0),
        # weights from 3 to 13; the second answer goes on at 13, and the others join at 14
        (Steps(2, 0.5, 10.0, keep_cache=True), [3, 15, 17, 19], 1),
        # its prompt and three tokens are computed again at 13, beside the others
        (Steps(2, 0.5, 10.0), [3, 15, 16, 18], 1),
        # weights take no time: a step begins at 3, before the others arrive, who join at 4
        (Steps(2, 0.5, 0.0), [3, 5, 7, 9], 1),
    ],
)
def test_steps_of_rollouts_by_hand(steps: Steps, finish_s: list[float], stale: int) -> None:
    requests, router = by_hand(SETS, steps=steps)
    np.testing.assert_allclose(requests["finish_s"], finish_s)
    assert router["stale_sessions"] == stale and router["step"] == 1
    dropped = steps.next_at < 1 and not steps.keep_cache
    assert requests["preemptions"].tolist() == [0, int(dropped), 0, 0]


def test_a_turn_waits_for_all_that_it_has_started_by_hand() -> None:
    """Answered at 2; sub-sessions from 2 to 5 and from 6 to 7; a second later the last turn."""
    rows = [(0, 0.0, np.nan, 2), (1, np.nan, 0.0, 3), (2, np.nan, 4.0, 1), (0, np.nan, 1.0, 1)]
    requests, router = by_hand(rows, forks=np.array([(0, 1, 2)], FORK))
    np.testing.assert_allclose(requests["finish_s"], [2, 5, 7, 9])
    np.testing.assert_allclose(requests["arrival_s"], [0, 2, 6, 8])
    assert router["sessions"] == router["sessions_ended"] == 1


def in_steps(**changes: Any):
    return small(workload={**WORKLOAD, **changes}, reward={"makespan": 1.0})


def test_a_world_of_steps_and_sub_agents_from_outside() -> None:
    steps = {"count": 3, "next_at": 0.6, "update_s": 5.0}
    fan_out = {"times": 1, "agents": {"p50": 2, "p90": 2, "most": 2}, "turns": {"p50": 2, "p90": 3}}
    scenario = in_steps(sessions=5, steps=steps, fan_out=fan_out)
    env = gym.make("gpuyard/Routing-v0", scenario=scenario).unwrapped
    rewards, info = episode(env, 0)
    requests = env.results()["requests"]
    assert np.isfinite(requests["finish_s"]).all() and info["steps_begun"] == 3
    assert info["sessions_ended"] == 15 and sum(rewards) == pytest.approx(-info["makespan_s"])
    ends = np.array([requests["finish_s"][requests["session"] == s].max() for s in range(15)])
    begins = [requests["arrival_s"][requests["session"] == 5 * k].min() for k in range(3)]
    for step in (1, 2):
        third = np.sort(ends[5 * step - 5 : 5 * step])[2]  # of five, after whose end
        assert begins[step] == pytest.approx(third + 5.0)
    stale = sum((ends[5 * k : 5 * k + 5] > begins[k + 1]).sum() for k in (0, 1))
    assert 0 < info["stale_sessions"] <= stale


def test_generated_sub_agents_are_as_stated() -> None:
    fan_out = {"times": 2, "agents": {"p50": 3, "p90": 5, "most": 8}}
    generator = sessions.preset("agentic", sessions=300, fan_out=fan_out)
    stream = generator.sample(np.random.default_rng(0))
    own, forks = 300, stream.forks
    assert forks["count"].min() >= 1 and np.percentile(forks["count"], [50, 90]).tolist() == [3, 5]
    counts = np.bincount(stream.session[forks["parent"]], minlength=own)
    turns = np.bincount(stream.session)[:own]
    np.testing.assert_array_equal(counts, np.minimum(2, turns - 1))
    rows = np.concatenate([np.arange(f["first"], f["first"] + f["count"]) for f in forks])
    np.testing.assert_array_equal(stream.session[rows], np.arange(own, own + len(rows)))
    for parent in forks["parent"]:
        assert (stream.session[parent + 1 :] == stream.session[parent]).any()  # who waits
    ids, distinct = len(stream.prefix_ids), int(stream.prefix_ids.max()) + 1
    assert all(np.array([len(stream), ids, distinct]) <= generator.room)
    alone = sessions.preset("agentic", sessions=300).sample(np.random.default_rng(0))
    np.testing.assert_array_equal(stream.output_tokens[:own], alone.output_tokens[:own])


def test_recorded_sessions_go_through_steps(tmp_path) -> None:
    rows = [
        {"session": s, "turn": t, "new_tokens": 20, "output_tokens": 9, "tool_s": 1.0}
        for s in range(7)
        for t in range(2)
    ]
    path = turns_file(tmp_path / "t.jsonl", rows)
    workload = recorded(path, sessions=2, steps={"count": 3})
    stream = workload.sample(np.random.default_rng(0))
    assert workload.num_sessions == 6 and workload.num_steps == 3
    np.testing.assert_array_equal(stream.arrival_s, [0.0, 0.0] + [np.nan] * 10)
    np.testing.assert_array_equal(stream.think_s[:6], [np.nan, np.nan, 0, 0, 0, 0])
    with pytest.raises(ScenarioError, match=r"workload.steps.count = 8 is above the 7 sessions"):
        recorded(path, steps={"count": 8})


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"steps": 2}, "steps = 2 must be a table of count, next_at, update_s, keep_cache"),
        ({"steps": {"count": 0}}, "Steps.count = 0 is out of range; choose 1 to 65536"),
        ({"steps": {"next_at": 0.0}}, r"Steps.next_at = 0.0 is out of range; choose 0.01 to 1"),
        ({"steps": {"keep_cache": 1}}, "Steps.keep_cache = 1 must be true or false"),
        ({"fan_out": {"times": -1}}, "FanOut.times = -1 is out of range"),
        ({"fan_out": {"agents": 3}}, "agents = 3 must be a table of p50, p90, most"),
        ({"fan_out": {"share": 3}}, "fan_out = {'share': 3} must be a table of times, agents"),
        ({"trace": "x.jsonl", "steps": 3}, "workload.steps"),
    ],
)
def test_what_does_not_fit_is_refused(table, message) -> None:
    with pytest.raises(ScenarioError, match=message):
        small(workload={"closed_loop": True, **table})


def test_engines_that_take_no_new_weights_are_refused() -> None:
    replica = {"gpu": "A100-80", "model": "Llama-3-8B", "batching": "static"}
    replica |= {
        "chunked_prefill": False,
        "max_num_batched_tokens": 16384,
        "kv_reservation": "contiguous",
        "prefix_caching": False,
    }
    workload = {**WORKLOAD, "steps": {"count": 2}}
    with pytest.raises(ScenarioError, match=r"replicas\[0\].batching = 'static' is not modelled"):
        from_dict({"replicas": [replica], "workload": workload}, "static")
