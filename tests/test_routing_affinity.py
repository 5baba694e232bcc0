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
