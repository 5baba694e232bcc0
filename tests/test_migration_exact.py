"""Requests that move between replicas: the same events as a naive reference, and by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from engine_worlds import (
    cost_table,
    engine_world,
    random_spec,
    random_stream,
    reference_requests,
)
from reference_moves import MovingWorld, Rules
from reference_steps import ReplicaSpec

from gpuyard.envs.engine.core.records import MIGRATE, ROUTE, START, STEP, records_of
from gpuyard.envs.engine.serving.move_records import MIGRATION_RULES
from gpuyard.envs.perf.serving.cost_table import COST, CostTable
from gpuyard.envs.world import World

FEATURES = ("whole_prompt", "lag", "frontend")
STEP_S = 0.01


def rules_of(rng: np.random.Generator, interval_s: float = 0.0) -> np.ndarray:
    return records_of(
        MIGRATION_RULES,
        interval_s=interval_s or rng.uniform(0.01, 0.3),
        gb_per_s=1.0,
        stage_ms=rng.choice([0.0, 1.0, 20.0]),
        last_blocks=int(rng.integers(1, 20)),
        max_stages=int(rng.integers(1, 5)),
        block_s=10.0 ** rng.uniform(-4, -1.5),
    )


def play(world: World, rng: np.random.Generator) -> tuple[list[int], list[tuple[float, int, int]]]:
    """Take random decisions to the end; returns where requests went, and what moved when."""
    outputs, assignment, moves, source = world.outputs(), [], [], -1
    none = len(world.state["replicas"][0])
    world.run(np.array([START]), np.zeros(1, np.int64), outputs)
    while not world.done[0]:
        action = int(rng.choice(np.flatnonzero(outputs.mask[0])))
        due, now_s = world.clock["due"][0], float(world.clock["now_s"][0])
        if due == ROUTE:
            action = int(rng.integers(none))
            assignment.append(action)
        else:
            assert due == MIGRATE
            if action != none and source >= 0:
                moves.append((now_s, source, action))
            source = action if source < 0 and action != none else -1
        world.run(np.array([STEP]), np.array([action]), outputs)
        check(world)
    return assignment, moves


def check(world: World) -> None:
    """Every block is somewhere: free, or held, and each request has one place."""
    state, specs = world.state, world.shared["replica_specs"]
    replicas, requests, moves = state["replicas"][0], state["requests"][0], state["moves"][0]
    gives = moves["request"] >= 0
    assert state["mover"]["moving"][0] == gives.sum()
    for r in np.flatnonzero(gives):
        assert moves["source"][moves["to"][r]] == r
    assert (moves["source"] >= 0).sum() == gives.sum()
    for r, spec in enumerate(specs):
        entries = state["prefix_entries"][0][: state["router"]["entries"][0]]
        unheld = (entries["node"] >= 0) & (entries["replica"] == r) & (entries["holders"] == 0)
        lead = entries["lead"][unheld].sum()
        queued = replicas["tail_blocks"][r] + lead + unheld.sum() * spec["unit_blocks"]
        assert queued == replicas["free_blocks"][r], "the queue of free blocks miscounts"
    served = np.isfinite(requests["finish_s"])
    assert served.sum() == state["router"]["finished"][0]


def at_the_end(world: World) -> None:
    """Each request has ended once, and all blocks are free."""
    state, specs = world.state, world.shared["replica_specs"]
    n, ended = int(state["router"]["num_requests"][0]), np.isfinite(state["requests"]["finish_s"])
    assert state["router"]["finished"][0] == n == ended.sum()
    np.testing.assert_array_equal(state["replicas"][0]["free_blocks"], specs["kv_blocks"])
    for name in ("in_flight", "in_flight_tokens", "running", "waiting", "queued_tokens"):
        assert not state["replicas"][0][name].any(), name
    np.testing.assert_allclose(state["replicas"][0]["work_s"], 0.0, atol=1e-9)
    assert state["router"]["in_flight"][0] == 0 and state["mover"]["moving"][0] == 0


def run_both(seed: int, features: tuple[str, ...], most: int = 60) -> tuple[World, MovingWorld]:
    rng = np.random.default_rng(seed)
    unit = int(rng.choice([0, 16, 32, 64]))
    has = dict.fromkeys(features, True)
    specs = [random_spec(rng, unit, **has) for _ in range(int(rng.integers(2, 5)))]
    specs = [replace(spec, max_num_seqs=max(spec.max_num_seqs, 3)) for spec in specs]
    specs = [
        replace(spec, max_num_batched_tokens=max(spec.max_num_batched_tokens, 16)) for spec in specs
    ]
    tables = [cost_table(rng, True, spec) for spec in specs]
    stream = random_stream(rng, int(rng.integers(5, most)), unit)
    stream = replace(stream, priority=rng.choice([0.0, 0.5], len(stream)).astype(np.float32))
    rules = rules_of(rng)
    world = engine_world(specs, tables, stream, migration=rules)
    assignment, moves = play(world, rng)
    slow = MovingWorld(
        specs,
        tables,
        reference_requests(stream),
        Rules(
            float(rules["block_s"][0]),
            1e-3 * float(rules["stage_ms"][0]),
            int(rules["last_blocks"][0]),
            int(rules["max_stages"][0]),
        ),
    )
    slow.serve(reference_requests(stream), assignment, moves)
    return world, slow


@pytest.mark.parametrize("features", [(), *((one,) for one in FEATURES), FEATURES], ids="+".join)
def test_moves_give_the_same_events(features: tuple[str, ...]) -> None:
    moved = given_up = 0
    for seed in range(700, 712):
        world, slow = run_both(seed, features)
        got, mover = world.state["requests"][0], world.state["mover"][0]
        expected = slow.result
        np.testing.assert_array_equal(got["preemptions"], expected.preemptions)
        np.testing.assert_array_equal(got["cached_tokens"], expected.cached_tokens)
        np.testing.assert_allclose(got["first_token_s"], expected.first_token_s, rtol=1e-9)
        np.testing.assert_allclose(got["finish_s"], expected.finish_s, rtol=1e-9)
        assert (mover["arrived"], mover["given_up"]) == (slow.arrived, slow.given_up)
        np.testing.assert_allclose(mover["pause_s"], sum(slow.pauses), rtol=1e-9, atol=1e-12)
        at_the_end(world)
        moved, given_up = moved + slow.arrived, given_up + slow.given_up
    assert moved > 50 and given_up > 10


def steady_world(output: int, migration: np.ndarray) -> World:
    """Two replicas whose every step takes 10 ms, and a request of 30 tokens at time 0."""
    spec = ReplicaSpec(max_num_seqs=4, max_num_batched_tokens=64, kv_blocks=60)
    linear = np.full(65, STEP_S)
    linear[0] = 0.0
    table = CostTable(np.zeros((), COST)[()], linear, np.zeros(5))
    stream = random_stream(np.random.default_rng(0), 1, 0)
    stream = replace(
        stream,
        arrival_s=np.zeros(1),
        prompt_tokens=np.array([30], np.int32),
        output_tokens=np.array([output], np.int32),
        max_tokens=np.array([output], np.int32),
    )
    return engine_world([spec] * 2, [table] * 2, stream, migration=migration)


BY_HAND = {
    **{"interval_s": 0.105, "gb_per_s": 1.0, "stage_ms": 20.0, "last_blocks": 2},
    **{"max_stages": 3, "block_s": 1e-3},
}


@pytest.mark.parametrize(
    ("output", "changes", "finish_s", "moved"),
    [
        # 0.105 s: 10 tokens, 39 computed, the 11th step stores in the third block; two are copied.
        # 0.127 s: one is left; after the 13th step it leaves, 0.13 s, 42 computed.
        # 0.151 s: 21 ms later it is there, and has 87 steps to go.
        (100, {}, 1.021, 1),
        # with 3 blocks it leaves at once, after the 11th step: 23 ms from 0.11 s
        (100, {"last_blocks": 3}, 1.023, 1),
        (100, {"max_stages": 1}, 1.0, 0),  # two are needed
        (13, {}, 0.13, 0),  # it finishes in the step after which it was to leave
        (12, {}, 0.12, 0),  # and here while the first blocks are copied
    ],
)
def test_a_move_by_hand(output: int, changes: dict, finish_s: float, moved: int) -> None:
    world = steady_world(output, records_of(MIGRATION_RULES, **{**BY_HAND, **changes}))
    outputs = world.outputs()
    world.run(np.array([START]), np.zeros(1, np.int64), outputs)
    for action, mask in ((0, (1, 1, 0)), (0, (1, 0, 1)), (1, (0, 1, 1))):
        assert tuple(outputs.mask[0]) == mask
        world.run(np.array([STEP]), np.array([action]), outputs)
    while not world.done[0]:
        world.run(np.array([STEP]), np.array([2]), outputs)
    mover, request = world.state["mover"][0], world.state["requests"][0, 0]
    assert (mover["arrived"], mover["given_up"]) == (moved, 1 - moved)
    assert request["finish_s"] == pytest.approx(finish_s, rel=1e-12)
    assert world.clock["now_s"][0] == request["finish_s"]
    assert request["replica"] == moved
    assert mover["pause_s"] == pytest.approx(max(finish_s - STEP_S * output, 0.0), abs=1e-12)
    at_the_end(world)
