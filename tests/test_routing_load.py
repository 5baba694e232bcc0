"""Routers that go by load: requests, tokens, the better of two."""

from __future__ import annotations

import numpy as np
from routing_observations import choice, observe, router


def test_least_requests_counts_running_requests_and_least_queued_does_not():
    """Vidur's case: with empty queues a router that counts queues only picks replica 0."""
    observation = observe(in_flight=[40, 12, 7, 9], running=[40, 12, 7, 9], waiting=[0, 0, 0, 0])
    assert choice("least-requests", observation, 4) == 2
    assert choice("least-queued", observation, 4) == 0


def test_least_tokens_sees_sizes_where_least_requests_sees_counts():
    observation = observe(in_flight=[2, 3], in_flight_tokens=[64_000, 900])
    assert choice("least-requests", observation, 2) == 0
    assert choice("least-tokens", observation, 2) == 1


def test_large_loads_stay_apart_after_squashing():
    observation = observe(in_flight=[1001, 1000, 1002], in_flight_tokens=[5e5, 5e5 - 64, 5e5])
    assert choice("least-requests", observation, 3) == 1
    assert choice("least-tokens", observation, 3) == 1


def test_power_of_two_takes_ranks_with_their_exact_probabilities():
    """R = 4 distinct loads: the pair's better one has rank 1, 2, 3, 4 in 3, 2, 1, 0 of 6 pairs."""
    draws = 20_000
    policy = router("power-of-two", 4, num_envs=draws, seed=3)
    actions = policy.act(observe(in_flight=[[30, 10, 20, 0]] * draws))
    shares = np.bincount(actions, minlength=4)[[3, 1, 2, 0]] / draws
    assert shares[3] == 0
    # Three standard deviations of a share of 20,000 draws are below 0.011.
    np.testing.assert_allclose(shares, [3 / 6, 2 / 6, 1 / 6, 0], atol=0.011)


def test_power_of_all_choices_is_least_requests():
    observation = observe(in_flight=[[5, 3, 9, 1]] * 50)
    assert set(router("power-of-two", 4, 50, choices=4).act(observation)) == {3}


def test_power_of_two_draws_among_feasible_replicas_only():
    """With two feasible replicas both are drawn, so the better one always wins."""
    observation = observe(in_flight=[[0, 7, 5, 1]] * 100, mask=[0, 1, 1, 0])
    assert set(router("power-of-two", 4, 100).act(observation)) == {2}
