"""The ring on 64 GPUs: planned routes against ECMP, and the count of hash collisions."""

import numpy as np
import pytest
import ring_routing as ring
from ecmp_closed_form import expected_max_load


@pytest.fixture(scope="module")
def cluster():
    return ring.testbed()


def test_half_of_the_hops_cross_a_spine(cluster):
    above, below = ring.crossing(cluster)
    # 8 rings round 8 servers, 2 under each leaf: every second hop leaves its leaf
    assert np.bincount(above).tolist() == [8, 8, 8, 8]
    assert np.bincount(below).tolist() == [8, 8, 8, 8]


def test_planned_routes_share_nothing(cluster):
    assert ring.planned_slowdown(cluster) == 1.0


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_planned_routes_beat_ecmp_by_5_to_30_percent(cluster, seed):
    slow = ring.hashed_slowdown(cluster, ring.QUEUE_PAIRS, draws=500, seed=seed)
    assert 5 <= ring.gain_percent(slow, ring.planned_slowdown(cluster)) <= 30


def test_more_queue_pairs_collide_less(cluster):
    gains = [
        ring.gain_percent(ring.hashed_slowdown(cluster, q, draws=500), 1.0) for q in (1, 2, 4, 8)
    ]
    assert gains == sorted(gains, reverse=True)


@pytest.mark.parametrize("queue_pairs", [1, 4])
def test_uplinks_of_a_leaf_collide_as_the_closed_form_says(queue_pairs):
    parts = ring.CONNECTIONS * queue_pairs
    rng = np.random.default_rng(0)
    up = rng.integers(16, size=(4000, 8, parts))
    busiest = ring._most_parts(up, np.zeros(8, int), 1, 16)
    error = busiest.std() / np.sqrt(len(busiest))
    assert busiest.mean() == pytest.approx(expected_max_load(8 * parts, 16), abs=3 * error)
