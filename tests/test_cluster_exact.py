"""Services on a cluster against a naive reference: the same events, the same times."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from cluster_moments import decided, differing, of_engine, of_reference, undecided
from cluster_reference_worlds import Case, Rows, by_engine, by_reference, random_case
from reference_cluster import Cluster
from reference_exact import moment

APART = (("prefill", 1, 1, 1), ("decode", 1, 1, 1))
TWO_APART = (("prefill", 2, 2, 2), ("decode", 2, 2, 2))
SCALED_APART = (("prefill", 1, 1, 2), ("decode", 1, 2, 3))
SCALED_FROM_NONE = (("aggregated", 0, 0, 3),)
FEATURES = ("whole_prompt", "frontend", "windows", "state")


def same_events(case: Case, rows: Rows, where: str = "one node", seed: int = 0) -> Cluster:
    """Compare both; returns the reference."""
    world, watch = by_engine(case, rows, where, seed)
    history = None if where == "one node" else watch.changes
    cluster, expected = by_reference(case, world, history, watch.gangs)
    assert differing(of_engine(world, watch, case), of_reference(cluster)) == {}
    got = world.state["requests"][0, : len(case.stream)]
    np.testing.assert_array_equal(got["preemptions"], expected.preemptions)
    np.testing.assert_array_equal(got["cached_tokens"], expected.cached_tokens)
    for name in ("replica", "source"):
        ends = [getattr(seq, name) for seq in cluster.requests]
        np.testing.assert_array_equal(got[name], ends)
    fleet = world.state["fleet"][0]
    assert fleet["moved_bytes"] == pytest.approx(fleet["arrived_bytes"] + fleet["lost_bytes"])
    cluster.failures = sum(not change.gpus for change in watch.changes)
    return cluster


@pytest.mark.parametrize("rows", [APART, TWO_APART], ids=["1+1", "2+2"])
@pytest.mark.parametrize("seed", range(20))
def test_prefill_and_decode_apart(seed, rows) -> None:
    same_events(random_case(seed, rows, False), rows)


@pytest.mark.parametrize("feature", FEATURES)
@pytest.mark.parametrize("seed", range(100, 104))
def test_every_kind_of_engine_apart(seed, feature) -> None:
    same_events(random_case(seed, TWO_APART, False, feature), TWO_APART)


@pytest.mark.parametrize("seed", range(150, 155))
def test_engines_that_plan_ahead(seed) -> None:
    same_events(random_case(seed, SCALED_FROM_NONE, True, "lag", "frontend"), SCALED_FROM_NONE)


@pytest.mark.parametrize("seed", range(160, 170))
def test_engines_that_plan_ahead_apart(seed) -> None:
    """KV that lands during a step is seen a step late, and nobody behind it with it."""
    same_events(random_case(seed, TWO_APART, False, "lag"), TWO_APART)


@pytest.mark.parametrize("rows", [SCALED_APART, SCALED_FROM_NONE], ids=["apart", "from-none"])
@pytest.mark.parametrize("seed", range(200, 220))
def test_replicas_added_and_taken_away(seed, rows) -> None:
    same_events(random_case(seed, rows, True), rows)


@pytest.mark.parametrize("rows", [TWO_APART, SCALED_FROM_NONE], ids=["apart", "from-none"])
def test_long_prompts_in_parts(rows) -> None:
    for seed in range(520, 528):
        case = random_case(seed, rows, True)
        parts = tuple(
            replace(role, spec=replace(role.spec, threshold=16 + seed % 50)) for role in case.roles
        )
        same_events(replace(case, roles=parts), rows)


@pytest.mark.parametrize("where", ["one node", "failing nodes"])
@pytest.mark.parametrize("rows", [SCALED_APART, SCALED_FROM_NONE], ids=["apart", "from-none"])
def test_replicas_that_speculate(rows, where) -> None:
    for seed in range(500, 508):
        same_events(random_case(seed, rows, True, "frontend", speculation=True), rows, where, seed)


@pytest.mark.parametrize("seed", range(220, 250))
def test_replicas_change_their_role(seed) -> None:
    same_events(random_case(seed, SCALED_APART, True, turns=True), SCALED_APART)


@pytest.mark.parametrize("rows", [SCALED_APART, SCALED_FROM_NONE], ids=["apart", "from-none"])
@pytest.mark.parametrize("seed", range(250, 256))
def test_a_service_that_is_asked_for_later(seed, rows) -> None:
    """What is asked of it before waits; nobody adds a replica to it until then."""
    case = random_case(seed, rows, True)
    middle_s = float(np.median(case.stream.arrival_s))
    cluster = same_events(replace(case, asked_at_s=middle_s), rows)
    assert min(cluster.result.first_token_s) > middle_s


@pytest.mark.parametrize("features", [(), ("frontend",), ("whole_prompt",)], ids="+".join)
@pytest.mark.parametrize("rows", [SCALED_APART, SCALED_FROM_NONE], ids=["apart", "from-none"])
def test_failures_hand_requests_back(rows, features) -> None:
    failures = 0
    for seed in range(300, 308):
        case = random_case(seed, rows, True, *features, turns=rows is SCALED_APART)
        failures += same_events(case, rows, "failing nodes", seed).failures
    assert failures > 8


@pytest.mark.parametrize("seed", range(400, 412))
def test_transfers_and_gangs_on_busy_links(seed) -> None:
    case = random_case(seed, SCALED_APART, True, turns=seed % 2 == 1, block_bytes=1e8)
    cluster = same_events(case, SCALED_APART, "busy links", seed)
    assert len(cluster.network.gangs) == 8


@pytest.mark.parametrize("rows", [SCALED_APART, SCALED_FROM_NONE], ids=["apart", "from-none"])
def test_replicas_are_preempted_for_gangs(rows) -> None:
    preempted = 0
    for seed in (709, 714, 719):  # KV arrives at that moment; a decode replica loses its source
        case = random_case(seed, rows, True, turns=rows is SCALED_APART, block_bytes=1e8)
        preempted += same_events(case, rows, "too few GPUs", seed).failures
    assert preempted > 20


def test_transfers_within_a_domain() -> None:
    """A scaled decode replica elsewhere helps only prefill replicas beside it."""
    dropped = 0
    for seed in range(600, 608):
        case = random_case(seed, SCALED_APART, True, turns=seed % 2 == 1, farthest="leaf")
        dropped += same_events(case, SCALED_APART, "busy links", seed).dropped
    assert dropped > 0


def test_transfers_within_a_node_where_nodes_fail() -> None:
    failures = 0
    for seed in range(600, 608):
        case = random_case(seed, SCALED_APART, True, turns=seed % 2 == 1, farthest="node")
        failures += same_events(case, SCALED_APART, "failing nodes", seed).failures
    assert failures > 8


@pytest.mark.parametrize("where", ["one node", "failing nodes"])
def test_only_blocks_that_are_lacking_move(where) -> None:
    spared = 0
    for seed in range(620, 628):
        case = random_case(seed, SCALED_APART, True, turns=seed % 2 == 1, lacking=True)
        cluster = same_events(case, SCALED_APART, where, seed)
        spared += sum(replica.spared for replica in cluster.replicas)
    assert spared > 0


@pytest.mark.parametrize("where", ["one node", "failing nodes", "busy links"])
def test_caches_move_layer_by_layer(where) -> None:
    overlapped, size = 0, 1e6 if where == "one node" else 1e8
    for seed in range(640, 646):
        features = {"turns": seed % 2 == 1, "lacking": seed % 3 == 0, "layers": 1 + 3 * (seed % 4)}
        case = random_case(seed, SCALED_APART, True, **features, block_bytes=size)
        overlapped += same_events(case, SCALED_APART, where, seed).overlapped
    assert overlapped > 20


def test_lacking_blocks_layer_by_layer_within_a_domain() -> None:
    """Idle replicas begin steps at one moment; within a round KV is cut off and replicas start."""
    overlapped = 0
    worlds = ((715, 4, "failing nodes"), (775, 1, "failing nodes"), (756, 2, "busy links"))
    for seed, layers, where in worlds:
        far, size = ("leaf", 1e8) if where == "busy links" else ("node", 1e6)
        features = {"turns": seed % 2 == 1, "lacking": True, "layers": layers, "farthest": far}
        case = random_case(seed, SCALED_APART, True, **features, block_bytes=size)
        overlapped += same_events(case, SCALED_APART, where, seed).overlapped
    assert overlapped > 10


@pytest.mark.parametrize(("where", "domain"), [("failing nodes", "node"), ("busy links", "leaf")])
def test_transfers_prefer_a_domain(where, domain) -> None:
    """The rule takes those in the domain if there are any: as rows say, and as nodes stand."""
    size, chose = (1e8, 0) if where == "busy links" else (1e6, 0)
    for seed in (905, 907):
        features = {"turns": seed % 2 == 1, "layers": 2 * (seed % 3), "nearest": domain}
        case = random_case(seed, SCALED_APART, True, **features, block_bytes=size)
        chose += same_events(case, SCALED_APART, where, seed).chose
    assert chose > 0


def test_uplinks_of_preempted_replicas_are_free_again() -> None:
    """KV caches go over uplinks that a gang of replicas had reserved before it was preempted."""
    case = random_case(1259, SCALED_APART, True, "frontend", turns=True, layers=1, block_bytes=1e8)
    same_events(case, SCALED_APART, "too few GPUs", 1259)


def test_where_rounding_decides_the_engine_has_all_that_it_does_not() -> None:
    """Four gangs on the same links are chaotic: fractions and floats part by more than 1 ms."""
    features = {"turns": True, "nearest": "leaf", "block_bytes": 1e8}
    case = random_case(915, SCALED_APART, True, **features)
    world, watch = by_engine(case, SCALED_APART, "busy links", 915)
    given, until_s = (case, world, watch.changes, watch.gangs), 20.0
    rounded, exact = (
        of_reference(by_reference(*given, number, until_s)[0]) for number in (float, moment)
    )
    both = rounded.keys() & exact.keys()
    assert max(abs(rounded[what] - exact[what]) for what in both) > 1e-3
    told = of_engine(world, watch, case)
    engine = {what: told[what] for what in told.keys() & both}
    sure = decided(engine, rounded, exact)
    assert not differing(engine, exact).keys() & sure
    assert min(undecided(rounded, exact).values()) > 8 and len(sure & engine.keys()) > 100
    assert {name for name, *_ in sure} == {"first token", "finish", "arrival of KV", "iteration"}
