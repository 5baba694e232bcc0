"""Sessions that answer back beside KV tiers: the engine against a naive reference, to 1e-9."""

from __future__ import annotations

import numpy as np
import pytest
from engine_worlds import cost_table, engine_world, random_spec, reference_requests
from reference_serving import Result
from reference_session_tiers import Nic, Store, StoredReplica, TieredEngine
from reference_sessions import Engine, simulate_sessions
from reference_tiers import Host
from session_worlds import (
    in_line,
    last_turns,
    random_sessions,
    rollouts_of,
    waits,
    with_forks,
    with_steps,
)
from test_invariants import blocks_are_conserved
from test_session_exact import every_turn_once

from gpuyard.envs.engine.core.records import START, STEP, records
from gpuyard.envs.engine.serving.tier_records import REPLICA_TIERS, TIER_SPEC
from gpuyard.envs.workload.requests.steps import Steps
from gpuyard.envs.world import World

HOST, STORE, BOTH = (True, False), (False, True), (True, True)
FEATURES = ({}, {"whole_prompt": True, "frontend": True, "lag": True})


def tier_records(hosts: list[Host], store: Host, nic_s: list[float]):
    """The tiers of a world: host memory and a store, each where it has room."""
    has_store = store.units > 0
    tiers = records(len(hosts) + has_store, TIER_SPEC)
    own = records(len(hosts), REPLICA_TIERS)
    own["store"] = len(hosts) if has_store else -1
    for tier, spec in enumerate([*hosts, store][: len(tiers)]):
        tiers["units"][tier], tiers["unit_s"][tier] = spec.units, spec.unit_s
    for r, host in enumerate(hosts):
        own["host"][r] = r if host.units else -1
        own["write_back"][r], own["nic_unit_s"][r] = host.write_back, nic_s[r]
    return tiers, own


def play_checked(world: World, assignment: np.ndarray) -> list[tuple[float, int]]:
    """Send each turn where it is to go; blocks and units are where they should be all the time."""
    outputs, seen = world.outputs(), []
    world.run(np.array([START]), np.zeros(1, np.int64), outputs)
    while not world.done[0]:
        index = int(world.state["router"]["deciding"][0])
        seen.append((float(world.clock["now_s"][0]), index))
        if len(seen) % 5 == 0:
            for r in range(len(world.shared["replica_specs"])):
                blocks_are_conserved(world, r)
            tiers_are_whole(world)
        world.run(np.array([STEP]), np.array([assignment[index]]), outputs)
    return seen


def tiers_are_whole(world: World) -> None:
    """Each unit of a tier has one place and is in its order of use once; none has too many."""
    entries = world.state["tier_entries"][0]
    for tier, state in enumerate(world.state["tiers"][0]):
        begin, used = int(state["begin"]), int(state["used"])
        assert used <= state["units"] <= world.shared["tier_specs"]["units"][tier]
        places = world.state["tier_places"][0, tier]
        nodes = entries["node"][begin : begin + used]
        np.testing.assert_array_equal(places[nodes], np.arange(begin, begin + used))
        assert (places >= 0).sum() == used
        order, at = [], int(state["newest"])
        while at >= 0:
            order.append(at)
            at = int(entries["older"][at])
        assert sorted(order) == list(range(begin, begin + used))


def both(seed: int, which: tuple[bool, bool], kind: str, features: dict[str, bool]):
    """Serve random sessions on caches that are too small, by both."""
    rng = np.random.default_rng(seed)
    unit = int(rng.choice([16, 32]))
    specs = [random_spec(rng, unit, **features) for _ in range(int(rng.integers(1, 4)))]
    tables = [cost_table(rng, True, spec) for spec in specs]
    count = int(rng.integers(2, 5))
    own, subs = count * int(rng.integers(3, 6)), int(rng.integers(1, 9)) if kind == "forks" else 0
    stream = random_sessions(rng, own + subs, unit)
    if kind == "forks":
        stream = with_forks(rng, stream, subs)
    if kind == "steps":
        next_at, update_s = rng.choice([1.0, 0.5, 0.2]), rng.choice([0.0, 0.01, 0.5])
        keeps = bool(rng.random() < 0.2)
        stream = with_steps(stream, Steps(count, float(next_at), float(update_s), keeps))
    if kind == "line":
        stream = in_line(stream, int(rng.integers(1, own)))
    unit_s = float(rng.choice([1e-4, 5e-3, 5e-2] if kind != "steps" else [5e-3, 5e-2, 0.5]))
    hosts = [
        Host(which[0] * int(rng.integers(2, 60)), unit_s, bool(rng.integers(2))) for _ in specs
    ]
    store = Host(which[1] * int(rng.integers(2, 120)), unit_s / 2, False)
    nic_s = [float(rng.choice([1e-4, 2e-2])) for _ in specs]
    assignment = rng.integers(0, len(specs), len(stream))
    world = engine_world(specs, tables, stream, tiers=tier_records(hosts, store, nic_s))
    seen = play_checked(world, assignment)
    shared, engines = Store(store), []

    def engine(r: int, result: Result) -> Engine:
        replica = StoredReplica(specs[r], tables[r], result, hosts[r], shared, Nic(nic_s[r]))
        engines.append(TieredEngine(replica))
        return engines[-1]

    expected, arrival_s = simulate_sessions(
        *(specs, tables, reference_requests(stream), waits(stream), list(assignment)),
        rollouts=rollouts_of(stream) if stream.steps else None,
        last=last_turns(stream) if kind == "line" else (),
        make=engine,
    )
    given_up = sum(each.given_up for each in engines)
    return stream, world, seen, expected, arrival_s, given_up


@pytest.mark.parametrize("features", FEATURES, ids=lambda has: "+".join(has) or "plain")
@pytest.mark.parametrize("kind", ["turns", "forks", "steps", "line"])
def test_turns_fetch_and_end_when_the_reference_says(kind: str, features: dict) -> None:
    fetched = given_up = 0
    for seed in range(4, 10 if kind == "steps" else 7):
        which = (HOST, STORE, BOTH)[seed % 3]
        stream, world, seen, expected, arrival_s, gave_up = both(seed, which, kind, features)
        got = world.state["requests"][0]
        np.testing.assert_array_equal(got["cached_tokens"], expected.cached_tokens)
        np.testing.assert_array_equal(got["preemptions"], expected.preemptions)
        np.testing.assert_allclose(got["arrival_s"], arrival_s, rtol=1e-9)
        np.testing.assert_allclose(got["first_token_s"], expected.first_token_s, rtol=1e-9)
        np.testing.assert_allclose(got["finish_s"], expected.finish_s, rtol=1e-9)
        if kind == "turns":
            every_turn_once(stream, world, seen)
        fetched, given_up = fetched + int(got["fetched_tokens"].sum()), given_up + gave_up
    assert fetched > 1000 and (given_up > 0 or kind != "steps")
