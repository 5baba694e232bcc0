"""Routers that look at no load: round robin, weighted or not, and random."""

from __future__ import annotations

import numpy as np
from routing_observations import observe, router

from gpuyard.baselines.routing.oblivious import smooth_weighted_round_robin


def test_round_robin_cycles_skips_and_restarts():
    policy = router("round-robin", 3, num_envs=2)
    both = observe(in_flight=np.zeros((2, 3)))
    assert [policy.act(both).tolist() for _ in range(4)] == [[0, 0], [1, 1], [2, 2], [0, 0]]
    # Replica 1 is next; without it the turn passes to 2 and then on to 0.
    without_1 = observe(in_flight=np.zeros((2, 3)), mask=[1, 0, 1])
    assert policy.act(without_1).tolist() == [2, 2]
    assert policy.act(both).tolist() == [0, 0]
    policy.restart(np.array([True, False]))
    assert policy.act(both).tolist() == [0, 1]


def test_holding_costs_nobody_its_turn():
    policy = router("round-robin", 2)
    nobody = observe(in_flight=[0, 0], mask=[0, 0], hold=True)
    free = observe(in_flight=[0, 0], hold=True)
    assert [policy.act(o)[0] for o in (free, nobody, free, free)] == [0, 2, 1, 0]


def test_smooth_weighted_round_robin_is_nginx_example():
    """Weights 5, 1, 1 give a a b a c a a, and the current weights return to zero."""
    current, weights = np.zeros((1, 3)), np.array([[5.0, 1.0, 1.0]])
    everyone, sequence = np.ones((1, 3), bool), []
    for _ in range(7):
        current, chosen = smooth_weighted_round_robin(current, weights, everyone)
        sequence.append("abc"[chosen[0]])
    assert "".join(sequence) == "aabacaa"
    assert not current.any()


def test_weighted_round_robin_follows_capacity_and_restarts():
    policy = router("weighted-round-robin", 3, num_envs=2)
    observation = observe(capacity=[[1.0, 0.5, 0.25]] * 2)
    actions = np.array([policy.act(observation) for _ in range(7)])
    assert np.bincount(actions[:, 0]).tolist() == [4, 2, 1]
    policy.act(observation)
    policy.restart(np.array([False, True]))
    replay = np.array([policy.act(observation)[1] for _ in range(7)])
    assert replay.tolist() == actions[:, 1].tolist()


def test_weighted_round_robin_shares_a_masked_turn_by_weight():
    policy = router("weighted-round-robin", 3)
    observation = observe(capacity=[1.0, 0.5, 0.25], mask=[0, 1, 1])
    actions = [policy.act(observation)[0] for _ in range(300)]
    assert np.bincount(actions, minlength=3).tolist() == [0, 200, 100]


def test_random_is_uniform_over_the_feasible_and_seeded():
    observation = observe(in_flight=np.zeros((9000, 4)), mask=[1, 1, 0, 1])
    actions = router("random", 4, 9000, seed=1).act(observation)
    np.testing.assert_allclose(np.bincount(actions) / 9000, [1 / 3, 1 / 3, 0, 1 / 3], atol=0.015)
    assert (actions == router("random", 4, 9000, seed=1).act(observation)).all()
    assert (actions != router("random", 4, 9000, seed=2).act(observation)).any()
