"""Sessions that answer back: the engine against the naive reference, event by event."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from engine_worlds import cost_table, engine_world, random_spec, reference_requests
from reference_sessions import simulate_sessions
from reference_steps import observe
from session_worlds import random_sessions, waits

from gpuyard.envs.engine.core.records import START, STEP
from gpuyard.envs.workload.requests.stream import RequestStream
from gpuyard.envs.world import World

FEATURES = (
    {},
    {"lag": True},
    {"frontend": True},
    {"whole_prompt": True, "lag": True},
    {"windows": True, "state": True, "lag": True, "frontend": True},
)


def play(world: World, assignment: np.ndarray) -> list[tuple[float, int]]:
    """Send each request where it is to go; returns when each decision was and what it was about."""
    outputs, seen = world.outputs(), []
    world.run(np.array([START]), np.zeros(1, np.int64), outputs)
    while not world.done[0]:
        index = int(world.state["router"]["deciding"][0])
        seen.append((float(world.clock["now_s"][0]), index))
        world.run(np.array([STEP]), np.array([assignment[index]]), outputs)
    return seen


def both(seed: int, features: dict[str, bool]):
    rng = np.random.default_rng(seed)
    unit = int(rng.choice([0, 16, 32]))
    specs = [random_spec(rng, unit, **features) for _ in range(int(rng.integers(1, 4)))]
    tables = [cost_table(rng, True, spec) for spec in specs]
    stream = random_sessions(rng, int(rng.integers(2, 25)), unit)
    assignment = rng.integers(0, len(specs), len(stream))
    world = engine_world(specs, tables, stream)
    seen = play(world, assignment)
    requests = reference_requests(stream)
    expected = simulate_sessions(specs, tables, requests, waits(stream), list(assignment))
    return stream, world, seen, expected


@pytest.mark.parametrize("features", FEATURES, ids=lambda has: "+".join(has) or "plain")
def test_turns_arrive_and_end_when_the_reference_says(features) -> None:
    for seed in range(12):
        stream, world, seen, (expected, arrival_s) = both(seed, features)
        got = world.state["requests"][0]
        np.testing.assert_allclose(got["arrival_s"], arrival_s, rtol=1e-9)
        np.testing.assert_array_equal(got["cached_tokens"], expected.cached_tokens)
        np.testing.assert_array_equal(got["preemptions"], expected.preemptions)
        np.testing.assert_allclose(got["first_token_s"], expected.first_token_s, rtol=1e-9)
        np.testing.assert_allclose(got["finish_s"], expected.finish_s, rtol=1e-9)
        every_turn_once(stream, world, seen)


def every_turn_once(stream: RequestStream, world: World, seen: list[tuple[float, int]]) -> None:
    """Each request is decided about once, at its arrival, in order of time; turns after answers."""
    got, turns = world.state["requests"][0], waits(stream)
    assert sorted(index for _, index in seen) == list(range(len(stream)))
    assert [moment for moment, _ in seen] == sorted(moment for moment, _ in seen)
    for moment, index in seen:
        assert moment == got["arrival_s"][index]
        if turns[index].after >= 0:
            answered_s = got["finish_s"][turns[index].after]
            assert moment == answered_s + turns[index].think_s
    router = world.state["router"][0]
    assert router["unknown"] == router["due"] == 0
    assert router["sessions_ended"] == router["sessions"] == len(set(stream.session.tolist()))


def test_turns_share_their_place_or_have_their_own() -> None:
    """Where the prefix ids of a session lie changes nothing."""
    _, shared, _, _ = both(5, {})
    rng = np.random.default_rng(5)
    unit = int(rng.choice([0, 16, 32]))
    specs = [random_spec(rng, unit) for _ in range(int(rng.integers(1, 4)))]
    tables = [cost_table(rng, True, spec) for spec in specs]
    stream = random_sessions(rng, int(rng.integers(2, 25)), unit)
    counts = np.diff(stream.prefix_offsets)
    apart = [
        stream.prefix_ids[begin : begin + count]
        for begin, count in zip(stream.prefix_begin, counts, strict=True)
    ]
    assert unit and len(np.concatenate(apart)) > len(stream.prefix_ids)
    stream = replace(stream, prefix_ids=np.concatenate(apart), prefix_at=None)
    world = engine_world(specs, tables, stream)
    play(world, rng.integers(0, len(specs), len(stream)))
    for name in ("arrival_s", "finish_s", "cached_tokens"):
        mine, other = (w.state["requests"][0][name] for w in (world, shared))
        np.testing.assert_array_equal(mine, other)


def test_a_clock_alone_and_an_answer_back_agree_on_first_turns() -> None:
    """Sessions of one turn each are requests that arrive by the clock."""
    rng = np.random.default_rng(3)
    specs = [random_spec(rng, 0) for _ in range(2)]
    tables = [cost_table(rng, True, spec) for spec in specs]
    stream = random_sessions(rng, 20, 0)
    first = np.flatnonzero(np.isnan(stream.think_s))
    alone = replace(
        stream,
        **{
            name: getattr(stream, name)[first]
            for name in ("arrival_s", "prompt_tokens", "output_tokens", "max_tokens")
        },
        session=stream.session[first],
        priority=stream.priority[first],
        prefix_offsets=np.zeros(len(first) + 1, np.int64),
        think_s=None,
        prefix_at=None,
    )
    assignment = rng.integers(0, 2, len(first))
    worlds = []
    for given in (alone, replace(alone, think_s=np.full(len(first), np.nan))):
        worlds.append(engine_world(specs, tables, given))
        play(worlds[-1], assignment)
    finished = [world.state["requests"][0]["finish_s"] for world in worlds]
    np.testing.assert_array_equal(*finished)
    assert worlds[1].state["router"]["answers"][0] == 1


@pytest.mark.parametrize("seed", range(6))
def test_replicas_report_what_was_so_at_the_moment_of_the_report(seed: int) -> None:
    """Replicas run ahead of the router while sessions answer back, but never past a report."""
    rng = np.random.default_rng(seed)
    specs = [random_spec(rng, 16) for _ in range(3)]
    tables = [cost_table(rng, True, spec) for spec in specs]
    stream = random_sessions(rng, 12, 16)
    # ``observe`` counts who comes at a step's begin as seen by it
    stream = replace(stream, think_s=np.where(stream.think_s == 0.0, 0.01, stream.think_s))
    assignment = rng.integers(0, 3, len(stream))
    requests = reference_requests(stream)
    result, arrival_s = simulate_sessions(specs, tables, requests, waits(stream), list(assignment))
    world = engine_world(specs, tables, stream)
    world.state["router"]["signal_interval_s"] = 0.05
    outputs, reports = world.outputs(), 0
    world.run(np.array([START]), np.zeros(1, np.int64), outputs)
    while not world.done[0]:
        for r in range(3):
            replica = world.state["replicas"][0][r]
            then_s = float(replica["report_s"])
            sent = [s for s, a in zip(arrival_s, assignment, strict=True) if a == r and s < then_s]
            seen = observe(result.steps[r], sent, specs[r].kv_blocks, then_s)
            reported = [int(replica[f"report_{name}"]) for name in ("running", "waiting", "blocks")]
            assert reported == [seen.running, seen.waiting, seen.held_blocks]
            reports += then_s > 0
        index = int(world.state["router"]["deciding"][0])
        world.run(np.array([STEP]), np.array([assignment[index]]), outputs)
    assert reports > 50
