"""Routers that go by session or prefix."""

from __future__ import annotations

import numpy as np
from routing_observations import choice, observe, router


def test_session_goes_home_else_to_its_last_replica_else_to_the_least_loaded():
    home, last = [0, 1, 0, 0], [0, 0, 1, 0]
    load = [3, 99, 50, 2]
    columns = {"session_home": home, "session_last": last, "in_flight": load}
    assert choice("session-affinity", observe(**columns), 4) == 1
    assert choice("session-affinity", observe(**columns, mask=[1, 0, 1, 1]), 4) == 2
    assert choice("session-affinity", observe(in_flight=load), 4) == 3  # no session


def test_losing_a_replica_moves_only_its_own_sessions():
    """Consistent hashing: of S sessions on R replicas, about S / R move and the rest stay."""
    sessions, replicas, lost = 4000, 8, 2
    homes = np.random.default_rng(0).integers(replicas, size=sessions)
    flags = np.eye(replicas)[homes]
    load = np.random.default_rng(1).integers(0, 90, (sessions, replicas))
    policy = router("session-affinity", replicas, sessions)
    before = policy.act(observe(session_home=flags, in_flight=load))
    mask = np.arange(replicas) != lost
    after = policy.act(observe(session_home=flags, in_flight=load, mask=mask))
    assert (before == homes).all()
    moved = before != after
    assert (moved == (homes == lost)).all()
    assert abs(moved.mean() - 1 / replicas) < 0.02


def test_prefix_aware_takes_the_longest_match_whatever_the_load():
    observation = observe(prefix_sent=[0.2, 0.9, 0.5, 0.0], in_flight=[0, 200, 0, 0])
    assert choice("prefix-aware", observation, 4) == 1


def test_prefix_aware_is_random_among_equal_matches():
    observation = observe(prefix_sent=[[0.5, 0.1, 0.5, 0.5]] * 6000, mask=[1, 1, 1, 0])
    shares = np.bincount(router("prefix-aware", 4, 6000).act(observation), minlength=4) / 6000
    np.testing.assert_allclose(shares, [0.5, 0, 0.5, 0], atol=0.02)
    unmatched = observe(prefix_sent=[0, 0, 0], in_flight=[4, 1, 2])
    assert choice("prefix-aware", unmatched, 3, ties="least-requests") == 1


def test_consistent_hash_goes_home_whatever_the_load_else_to_the_first():
    """vllm-router, docs/load_balancing: same session, same worker; unhealthy: the first healthy."""
    columns = {"session_home": [0, 0, 1, 0], "in_flight": [0, 0, 500, 0]}
    assert choice("consistent-hash", observe(**columns), 4) == 2
    assert choice("consistent-hash", observe(**columns, mask=[0, 1, 0, 1]), 4) == 1


def test_consistent_hash_spreads_requests_without_a_key():
    shares = np.bincount(
        router("consistent-hash", 4, 6000).act(observe(in_flight=[[0] * 4] * 6000))
    )
    np.testing.assert_allclose(shares / 6000, [0.25] * 4, atol=0.02)


def test_sticky_least_loaded_stays_and_starts_at_the_lowest_load():
    """prime-rl 3563: any request of an active session is sticky, a new one goes to the least."""
    load = [7, 2, 2, 9]
    stays = observe(session_last=[0, 0, 0, 1], in_flight=load)
    assert choice("sticky-least-loaded", stays, 4) == 3
    assert choice("sticky-least-loaded", observe(in_flight=load), 4) == 1
    tied = observe(session_home=[0, 0, 1, 0], in_flight=load)
    assert choice("sticky-least-loaded", tied, 4) == 2
    busy = observe(session_home=[0, 1], in_flight=[9_999, 10_000])
    assert choice("sticky-least-loaded", busy, 2) == 0


def test_cache_aware_matches_while_load_is_even():
    """vllm-router: imbalanced if max - min > abs and max > min * rel; else match > threshold."""
    sent = [0.0, 0.6, 0.4]
    rule = {"balance_abs_threshold": 32, "balance_rel_threshold": 1.5}
    even = observe(prefix_sent=sent, in_flight=[0, 32, 5])  # 32 is not above 32
    assert choice("cache-aware", even, 3, **rule) == 1
    uneven = observe(prefix_sent=sent, in_flight=[0, 33, 5])
    assert choice("cache-aware", uneven, 3, **rule) == 0
    busy = observe(prefix_sent=sent, in_flight=[100, 150, 120])  # 150 is not above 1.5 * 100
    assert choice("cache-aware", busy, 3, **rule) == 1
    busier = observe(prefix_sent=sent, in_flight=[100, 151, 120])
    assert choice("cache-aware", busier, 3, **rule) == 0


def test_cache_aware_takes_the_least_loaded_below_its_threshold():
    seen = {"prefix_sent": [0.3, 0.2, 0.0], "in_flight": [4, 3, 2]}
    assert choice("cache-aware", observe(**seen), 3, cache_threshold=0.5) == 2
    assert choice("cache-aware", observe(**seen), 3, cache_threshold=0.25) == 0
    infeasible = observe(**seen, mask=[0, 1, 1])
    assert choice("cache-aware", infeasible, 3, cache_threshold=0.1) == 1
    tied = observe(prefix_sent=[0.9, 0.0, 0.9], in_flight=[4, 0, 3])
    assert choice("cache-aware", tied, 3) == 2


def test_kv_aware_takes_the_longest_reported_prefix():
    """vllm-router's scorer: blocks 10, 20, 30 against 10, 20 of three: 3 against 2."""
    columns = {"prefix_match": [2 / 3, 1.0, 0.0], "in_flight": [0, 50, 0]}
    assert choice("kv-aware", observe(**columns), 3) == 1
    assert choice("kv-aware", observe(**columns, mask=[1, 0, 1]), 3) == 0
    assert choice("kv-aware", observe(in_flight=[4, 2, 3]), 3) == 1
