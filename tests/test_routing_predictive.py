"""Routers that predict: capability and latency by hand."""

from __future__ import annotations

import numpy as np
from routing_observations import choice, observe, router

from gpuyard.baselines.routing.predictive import capability_cost


def test_capability_cost_by_hand():
    """w_c (work + prefill) / 1 s + w_m (used + reserved) / K, and overflow is rejected."""
    work, prefill = np.array([1.0, 4.0, 0.0]), np.array([0.2, 0.1, 0.4])
    share = np.array([0.9, 0.3, 1.2])
    np.testing.assert_allclose(capability_cost(work, prefill, share)[:2], [2.1, 4.4])
    assert capability_cost(work, prefill, share).argmin() == 0
    assert capability_cost(work, prefill, share, memory_weight=10).argmin() == 1
    everywhere_full = capability_cost(work, prefill, share + 1.0)  # 3.1, 5.4, 2.6 and a penalty
    assert everywhere_full.argmin() == 2


def test_capability_aware_prefers_the_replica_that_works_it_off_sooner():
    """A fast replica with more requests is better than a slow one with fewer."""
    observation = observe(
        in_flight=[12, 6],
        work_s=[2.0, 9.0],
        prefill_s=[0.05, 0.4],
        kv_usage=[0.5, 0.6],
        kv_demand=[0.01, 0.05],
    )
    assert choice("capability-aware", observation, 2) == 0
    assert choice("least-requests", observation, 2) == 1
    assert choice("capability-aware", observation, 2, compute_weight=0) == 0
    full = observe(work_s=[0.0, 9.0], kv_usage=[0.99, 0.1], kv_demand=[0.05, 0.05])
    assert choice("capability-aware", full, 2) == 1


def test_predicted_latency_by_hand():
    """0.5 + 0.1 + 200 * 0.01 = 2.6 s against 0 + 0.2 + 200 * 0.02 = 4.2 s; 10 tokens: 0.7, 0.4."""
    columns = {"wait_s": [0.5, 0.0], "prefill_s": [0.1, 0.2], "step_s": [0.01, 0.02]}
    score = router("predicted-latency", 2).score(observe(**columns))
    np.testing.assert_allclose(score, [[-2.6, -4.2]], rtol=1e-5)
    assert choice("predicted-latency", observe(**columns, estimate=10.0), 2) == 1


def test_predicted_latency_counts_what_it_sent_since_the_report():
    """Three of five in flight are unreported: 0.5 + 4 * 0.1 + 2 = 2.9 s; the other takes 4.2 s."""
    columns = {"wait_s": [0.5, 0.0], "prefill_s": [0.1, 0.2], "step_s": [0.01, 0.02]}
    seen = observe(**columns, in_flight=[5, 1], running=[1, 3], waiting=[1, 0])
    score = router("predicted-latency", 2).score(seen)  # two of the second's have finished since
    np.testing.assert_allclose(score, [[-2.9, -4.2]], rtol=1e-5)


def test_predicted_latency_spreads_a_crowd_that_comes_between_two_reports():
    """Forty requests at once, four idle replicas whose reports stay as they are: ten for each."""
    sent = np.zeros(4)
    for _ in range(40):
        sent[choice("predicted-latency", observe(in_flight=sent, prefill_s=[0.1] * 4), 4)] += 1
    assert sent.tolist() == [10.0] * 4
