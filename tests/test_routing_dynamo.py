"""Dynamo's KV router against its documented example, and by hand."""

from __future__ import annotations

import numpy as np
from routing_observations import choice, observe, router

from gpuyard.baselines.routing.dynamo import kv_cost, lmetric_cost


def test_dynamo_documented_example():
    """(prefill, decode) = (8, 10), (5, 5), (2, 9) cost 18, 10, 11: worker 2 of 1..3."""
    cost = kv_cost(np.array([8.0, 5, 2]), 0.0, np.array([10.0, 5, 9]))
    assert cost.tolist() == [18, 10, 11]
    assert cost.argmin() + 1 == 2


def test_dynamo_credit_scale_and_lmetric_by_hand():
    prefill, overlap, decode = np.array([8.0, 8, 3]), np.array([6.0, 0, 5]), np.array([10.0, 4, 7])
    assert kv_cost(prefill, overlap, decode).tolist() == [12, 12, 7]
    halved = kv_cost(prefill, overlap, decode, prefill_load_scale=2, overlap_credit=0.5)
    assert halved.tolist() == [2 * 5 + 10, 2 * 8 + 4, 2 * 0.5 + 7]
    assert lmetric_cost(prefill, overlap, decode).tolist() == [2 * 11, 8 * 5, 0]


def test_dynamo_reads_blocks_from_the_columns():
    """Prompt of 10 blocks; active prefill 20, 0; overlap 5, 0; decode 4, 30 blocks."""
    observation = observe(
        request_blocks=[10, 10],
        queued_tokens=[320, 0],
        prefix_match=[0.5, 0.0],
        in_flight_tokens=[64, 480],
    )
    cost = router("dynamo", 2).cost(observation)
    np.testing.assert_allclose(cost, [[20 + 10 - 5 + 4 + 10, 10 + 30 + 10]], rtol=1e-5)
    assert choice("dynamo", observation, 2) == 0
    # With decay 1: 20 blocks above the least loaded, twice the prompt: credit 1 / 3.
    decayed = router("dynamo", 2, overlap_credit_decay=1).cost(observation)
    np.testing.assert_allclose(decayed[0, 0], 44 - 5 / 3, rtol=1e-5)
    # lmetric: (20 + 10 - 5) * (14 + 1) = 375 against 10 * (40 + 1) = 410.
    lmetric = router("dynamo-lmetric", 2).cost(observation)
    np.testing.assert_allclose(lmetric, [[375, 410]], rtol=1e-5)


def test_dynamo_temperature_is_a_softmax_over_normalised_costs():
    """Costs 0, 3, 9 (the source's test): p ~ exp(-cost / (9 T)) with T = 1."""
    draws = 40_000
    observation = observe(in_flight_tokens=[[0, 48, 144]] * draws)
    actions = router("dynamo", 3, draws, temperature=1.0).act(observation)
    expected = np.exp([0, -1 / 3, -1])
    shares = np.bincount(actions, minlength=3) / draws
    np.testing.assert_allclose(shares, expected / expected.sum(), atol=0.0075)


def test_dynamo_temperature_never_draws_the_infeasible():
    observation = observe(in_flight_tokens=[[0, 48, 144]] * 500, mask=[0, 1, 1])
    assert set(router("dynamo", 3, 500, temperature=5.0).act(observation)) == {1, 2}
