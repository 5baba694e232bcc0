"""llm-d's scorers against its own tests, and their sum by hand."""

from __future__ import annotations

import numpy as np
import pytest
from routing_observations import choice, observe, router

from gpuyard.baselines.routing.llmd import active_requests, fewest, load_aware, token_load


def feasible(values) -> np.ndarray:
    return np.ones_like(values, bool)


@pytest.mark.parametrize(
    ("counts", "scores"),
    [([10, 5, 0], [0, 0.5, 1]), ([5, 5], [1, 1]), ([0, 0], [1, 1])],
)
def test_queue_scorer_is_the_sources_test(counts, scores):
    """Gateway API Inference Extension, scorer/queue_test.go."""
    counts = np.array([counts], float)
    np.testing.assert_allclose(fewest(counts, feasible(counts)), [scores])


def test_queue_scorer_ignores_infeasible_candidates():
    counts = np.array([[100.0, 4, 2, 0]])
    scores = fewest(counts, np.array([[False, True, True, False]]))
    np.testing.assert_allclose(scores[0, 1:3], [0, 1])


@pytest.mark.parametrize(
    ("counts", "scores"),
    [([0, 0, 0], [1, 1, 1]), ([3, 0, 6], [0.5, 1, 0]), ([4, 0, 1], [0, 1, 0.75])],
)
def test_active_request_scorer_is_the_sources_test(counts, scores):
    """llm-d, scorer/active_request_test.go."""
    counts = np.array([counts], float)
    np.testing.assert_allclose(active_requests(counts, feasible(counts)), [scores])


def test_load_aware_scorer_is_the_sources_test():
    """llm-d, scorer/load_aware_test.go: threshold 10."""
    np.testing.assert_allclose(load_aware(np.array([2.0, 0, 15]), 10), [0.4, 0.5, 0])


def test_token_load_scorer_is_the_documented_formula():
    tokens = np.array([0.0, 1_048_576, 4_194_304, 9e6])
    np.testing.assert_allclose(token_load(tokens), [1, 0.75, 0, 0])


def test_kv_scorer_is_the_sources_test():
    """kvcache_utilization_test.go: usage 0.8, 0.5, 0 -> 0.2, 0.5, 1."""
    policy = router("llm-d", 3, prefix=0, queue=0)
    score = policy.score(observe(kv_usage=[0.8, 0.5, 0.0]))
    np.testing.assert_allclose(score, [[0.2, 0.5, 1.0]], atol=1e-6)


def test_llmd_default_weights_by_hand():
    """2 prefix + queue + KV: 2*.9 + 0 + .2 = 2.0; 2*.5 + .5 + .6 = 2.1; 0 + 1 + .9 = 1.9."""
    observation = observe(prefix_sent=[0.9, 0.5, 0.0], waiting=[8, 4, 0], kv_usage=[0.8, 0.4, 0.1])
    policy = router("llm-d", 3)
    np.testing.assert_allclose(policy.score(observation), [[2.0, 2.1, 1.9]], atol=1e-6)
    assert policy.act(observation)[0] == 1
    assert choice("llm-d", observation, 3, prefix=5) == 0
    assert choice("llm-d", observation, 3, prefix=0) == 2


def test_llmd_options_read_their_columns():
    observation = observe(
        prefix_match=[0, 1, 0, 0],
        running=[3, 3, 0, 3],
        in_flight=[5, 5, 5, 0],
        in_flight_tokens=[0, 4e6, 4e6, 4e6],
        session_last=[0, 0, 0, 1],
        waiting=[0, 100, 100, 100],
    )
    off = {"prefix": 0, "queue": 0, "kv": 0}
    assert choice("llm-d", observation, 4, **off | {"prefix": 1}, precise=True) == 1
    assert choice("llm-d", observation, 4, **off, running=1) == 2
    assert choice("llm-d", observation, 4, **off, active=1) == 3
    assert choice("llm-d", observation, 4, **off, tokens=1) == 0
    assert choice("llm-d", observation, 4, **off, session=1) == 3
    assert choice("llm-d", observation, 4, **off, load=1) == 0


def test_weights_at_once_leave_out_what_they_do_not_name():
    """Prefix 4, queue 3 (BLIS): 4*.9 + 0 = 3.6; 4*.5 + 3*.5 = 3.5; 0 + 3 = 3."""
    columns = {"prefix_sent": [0.9, 0.5, 0.0], "waiting": [8, 4, 0], "kv_usage": [0.8, 0.4, 0.1]}
    policy = router("llm-d?weights=prefix:4,queue:3", 3)
    np.testing.assert_allclose(policy.score(observe(**columns)), [[3.6, 3.5, 3.0]], atol=1e-5)
    with pytest.raises(ValueError, match="weights has no scorer 'cache'; it accepts prefix, queue"):
        router("llm-d", 3, weights={"cache": 1.0})
