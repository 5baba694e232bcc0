"""A cost of few terms: what each of them is worth, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from routing_observations import LAYOUT, observe, pool

from gpuyard import baselines
from gpuyard.baselines.cost import TERMS
from gpuyard.baselines.registry import names_in


def cost(weights: dict[str, float], observation: dict[str, np.ndarray]) -> list[float]:
    policy = baselines.make("cost", weights=weights)
    policy.reset(pool(observation["candidates"].shape[1]), len(observation["candidates"]))
    return (-policy.score(observation)).tolist()


def test_terms_are_products_in_their_own_units():
    seen = observe(
        estimate=100.0,
        wait_s=[0.2, 0.0],
        prefill_s=[0.5, 2.0],
        step_s=[0.01, 0.03],
        in_flight=[4, 1],
        session_last=[0, 1],
    )
    seen["cluster"][:, LAYOUT.index("cluster", "progress")] = 0.5
    near = pytest.approx
    assert cost({"wait_s": 1, "prefill_s": 2}, seen) == [near([1.2, 4.0], rel=1e-5)]
    assert cost({"estimate*step_s": 1}, seen) == [near([1.0, 3.0], rel=1e-5)]
    assert cost({"in_flight*prefill_s": 1}, seen) == [near([2.0, 2.0], rel=1e-5)]
    assert cost({"progress*session_last": -3}, seen) == [near([0.0, -1.5], rel=1e-5)]
    both = {"wait_s": 1.0, "in_flight*prefill_s": 0.5}
    assert cost(both, seen) == [near([1.2, 1.0], rel=1e-5)]


def test_others_can_outweigh_the_request_itself():
    """Its own turn ends first on replica 0, but there eight others wait for its prompt."""
    seen = observe(estimate=100.0, prefill_s=[0.5, 1.0], step_s=[0.01, 0.01], in_flight=[8, 2])
    first, second = cost(TERMS, seen)[0]
    assert first == pytest.approx(1.5, rel=1e-5) and second == pytest.approx(2.0, rel=1e-5)
    first, second = cost({**TERMS, "in_flight*prefill_s": 1.0}, seen)[0]
    assert first == pytest.approx(5.5, rel=1e-5) and second == pytest.approx(4.0, rel=1e-5)


def test_without_search_it_is_predicted_latency():
    rng = np.random.default_rng(0)
    columns = {
        name: rng.uniform(0.0, most, (64, 4))
        for name, most in (("wait_s", 2.0), ("prefill_s", 1.0), ("step_s", 0.1), ("in_flight", 32))
    }
    seen = observe(**columns, running=columns["in_flight"])  # all of them are reported
    rule = baselines.make("routing/predicted-latency")
    rule.reset(pool(4), 64)
    np.testing.assert_allclose(-rule.score(seen), cost(TERMS, seen))


def test_what_is_refused():
    with pytest.raises(ValueError, match="cost: weights: wait_s = inf must be a finite number"):
        baselines.make("cost", weights={"wait_s": np.inf})
    with pytest.raises(ValueError, match="cost: weights name 'waits': no such column; there are"):
        cost({"waits*in_flight": 1.0}, observe())


def test_a_name_with_products_stands_in_lists_of_names():
    name = "cost?weights=wait_s:1,in_flight*prefill_s:2"
    assert names_in(f"{name},routing/random") == [name, "routing/random"]
    assert baselines.make(name).weights == {"wait_s": 1.0, "in_flight*prefill_s": 2.0}
    assert baselines.decides(name) == {"route"} and "cost" not in baselines.names()
