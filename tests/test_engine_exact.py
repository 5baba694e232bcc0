"""The compiled engine against the naive reference: the same events, the same times."""

from __future__ import annotations

from dataclasses import replace
from itertools import compress, product

import numpy as np
import pytest
from engine_worlds import (
    cached_here,
    cost_table,
    drafting_spec,
    engine_world,
    random_spec,
    random_stream,
    reference_requests,
    send_all,
)
from reference_ranks import simulate_ranks
from reference_serving import simulate
from reference_steps import Result

from gpuyard.envs.world import World

FEATURES = ("whole_prompt", "lag", "frontend", "windows", "state")


def run_both(
    seed: int,
    affine: bool,
    grid_s: float = 0.0,
    features: tuple[str, ...] = (),
    speculation: bool = False,
):
    """Serve a random world by both; ``grid_s`` > 0 makes requests arrive together."""
    rng = np.random.default_rng(seed)
    unit = int(rng.choice([0, 16, 32, 64]))
    has = dict.fromkeys(features, True)
    specs = [random_spec(rng, unit, **has) for _ in range(int(rng.integers(1, 4)))]
    if speculation:
        specs = [drafting_spec(rng, spec) for spec in specs]
    tables = [cost_table(rng, affine, spec) for spec in specs]
    stream = random_stream(rng, int(rng.integers(5, 60)), unit)
    if grid_s:
        stream = replace(stream, arrival_s=np.ceil(stream.arrival_s / grid_s) * grid_s)
    assignment = rng.integers(0, len(specs), len(stream))
    expected = simulate(specs, tables, reference_requests(stream), list(assignment), seed)
    return expected, served(specs, tables, stream, assignment, seed)


def served(
    specs, tables, stream, assignment, seed: int = 0, ranks: int = 1, waits_s=0.0, tiers=()
) -> World:
    """Return the engine's world after it has sent each request where it is to go."""
    world = engine_world(specs, tables, stream, seed, ranks, tiers)
    world.state["replicas"]["waits_s"] = waits_s
    send_all(world, assignment)
    return world


@pytest.mark.parametrize(
    ("seed", "grid_s"),
    [*((seed, 0.0) for seed in range(60)), *((seed, 0.2) for seed in range(60, 90))],
)
def test_affine_costs_give_the_same_events(seed: int, grid_s: float) -> None:
    same_events(*run_both(seed, affine=True, grid_s=grid_s))


@pytest.mark.parametrize("grid_s", [0.0, 0.2])
@pytest.mark.parametrize(
    "features", [tuple(compress(FEATURES, has)) for has in product((0, 1), repeat=5)], ids="+".join
)
def test_every_kind_of_engine_gives_the_same_events(features, grid_s: float) -> None:
    for seed in range(400, 403):
        same_events(*run_both(seed, True, grid_s, features))


@pytest.mark.parametrize("grid_s", [0.0, 0.2])
@pytest.mark.parametrize("features", [(), *((one,) for one in FEATURES), FEATURES], ids="+".join)
def test_speculating_engines_give_the_same_events(features, grid_s: float) -> None:
    for seed in range(500, 508):
        same_events(*run_both(seed, True, grid_s, features, speculation=True))


@pytest.mark.parametrize("speculation", [False, True])
@pytest.mark.parametrize("features", [(), *((one,) for one in FEATURES)], ids="+".join)
def test_ranks_in_lock_step_give_the_same_events(features, speculation: bool) -> None:
    for seed in range(600, 606):
        rng = np.random.default_rng(seed)
        unit, has = int(rng.choice([0, 16, 32])), dict.fromkeys(features, True)
        specs = [random_spec(rng, unit, **has) for _ in range(int(rng.integers(2, 5)))]
        if speculation:
            specs = [drafting_spec(rng, spec) for spec in specs]
        tables = [cost_table(rng, True, spec) for spec in specs]
        stream = random_stream(rng, int(rng.integers(5, 60)), unit)
        assignment = rng.integers(0, len(specs), len(stream))
        requests = reference_requests(stream)
        expected = simulate_ranks(specs, tables, requests, list(assignment), seed)
        same_events(expected, served(specs, tables, stream, assignment, seed, len(specs)))


@pytest.mark.parametrize("seed", range(500, 506))
def test_waits_for_links_are_as_if_every_token_took_longer(seed: int) -> None:
    rng = np.random.default_rng(seed)
    specs = [random_spec(rng, 16, lag=seed % 2 == 1) for _ in range(2)]
    tables = [cost_table(rng, False, spec) for spec in specs]
    slower = [
        replace(table, linear_s=table.linear_s + 2e-5 * np.arange(len(table.linear_s)))
        for table in tables
    ]
    stream = random_stream(rng, 40, 16)
    assignment = rng.integers(0, 2, len(stream))
    waited = served(specs, tables, stream, assignment, waits_s=2e-5).state["requests"][0]
    expected = served(specs, slower, stream, assignment).state["requests"][0]
    for name in ("first_token_s", "finish_s"):
        np.testing.assert_allclose(waited[name], expected[name], rtol=1e-9)


def test_more_replicas_than_a_word_has_bits() -> None:
    """Prefixes are kept apart on replicas 0, 1, 63, 64, 65 and 128, whose bits share two words."""
    rng = np.random.default_rng(7)
    specs = [random_spec(rng, 16) for _ in range(129)]
    tables = [cost_table(rng, True, spec) for spec in specs]
    stream = random_stream(rng, 60, 16)
    assignment = rng.choice([0, 1, 63, 64, 65, 128], len(stream))
    expected = simulate(specs, tables, reference_requests(stream), list(assignment))
    assert np.maximum(expected.cached_tokens, 0).sum() > 0
    same_events(expected, served(specs, tables, stream, assignment))


def same_events(expected: Result, world: World) -> None:
    got = world.state["requests"][0]
    np.testing.assert_array_equal(got["cached_tokens"], expected.cached_tokens)
    np.testing.assert_array_equal(got["preemptions"], expected.preemptions)
    np.testing.assert_allclose(got["first_token_s"], expected.first_token_s, rtol=1e-9)
    np.testing.assert_allclose(got["finish_s"], expected.finish_s, rtol=1e-9)


@pytest.mark.parametrize("features", [(), FEATURES])
@pytest.mark.parametrize("seed", range(300, 320))
def test_bent_costs_stay_close(seed: int, features: tuple[str, ...]) -> None:
    expected, world = run_both(seed, affine=False, features=features)
    got = world.state["requests"][0]
    np.testing.assert_allclose(got["first_token_s"], expected.first_token_s, rtol=5e-3)
    np.testing.assert_allclose(got["finish_s"], expected.finish_s, rtol=5e-3)


@pytest.mark.parametrize("speculation", [False, True])
@pytest.mark.parametrize("features", [(), FEATURES])
@pytest.mark.parametrize("seed", range(10))
def test_blocks_are_conserved_at_the_end(
    seed: int, features: tuple[str, ...], speculation: bool
) -> None:
    _, world = run_both(seed, affine=True, features=features, speculation=speculation)
    for r, spec in enumerate(world.shared["replica_specs"]):
        replica = world.state["replicas"][0][r]
        cached = world.state["prefix_entries"][0][cached_here(world, r)]
        queued = int(replica["tail_blocks"]) + int(cached["lead"].sum())
        queued += len(cached) * int(spec["unit_blocks"])
        assert queued == replica["free_blocks"] == spec["kv_blocks"]
        assert not cached["holders"].any()
