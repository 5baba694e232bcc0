"""Gavel: shares of GPU types worked out by hand, and its rounds."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from mini_world import Gang, counted, planner, simulate
from views import make_cluster, make_view

from gpuyard.baselines.gang.shares import max_min_shares


def test_gavel_shares_of_two_jobs_on_two_types():
    """One fast and two slow GPUs; jobs keep 1/4 and 1/2 of their speed on a slow one.

    Equal shares are (1/3, 2/3), hence 1/2 and 2/3. With a of the fast GPU for job 0 the gains
    (1/4 + 3a/4) / (1/2) and (1 - a/2) / (2/3) meet at a = 4/9, both 7/6.
    """
    throughput, one = np.array([[1, 0.25], [1, 0.5]]), np.ones(2)
    shares = max_min_shares(throughput, one, np.array([1.0, 2.0]))
    np.testing.assert_allclose(shares, [[4 / 9, 5 / 9], [5 / 9, 4 / 9]], atol=1e-6)
    gains = (throughput * shares).sum(axis=1) / [1 / 2, 2 / 3]
    np.testing.assert_allclose(gains, 7 / 6, atol=1e-6)


def test_gavel_leaves_slow_gpus_to_jobs_that_do_not_mind():
    shares = max_min_shares(np.array([[1, 0.1], [1, 1]]), np.ones(2), np.ones(2))
    np.testing.assert_allclose(shares, np.eye(2), atol=1e-6)


def test_gavel_counts_gains_per_gpu():
    """Gangs of 4 and of 1 on 4 GPUs: gains 4 x and y, with 4 x + y <= 4 and y <= 1.

    The least gain is y = 1 at most; then x = 3/4.
    """
    shares = max_min_shares(np.ones((2, 1)), np.array([4.0, 1.0]), np.array([4.0]))
    np.testing.assert_allclose(shares, [[0.75], [1.0]], atol=1e-6)


def test_gavel_ignores_jobs_whose_gpus_all_failed():
    shares = max_min_shares(np.array([[0.0, 1.0], [1.0, 0.5]]), np.ones(2), np.array([1.0, 0.0]))
    np.testing.assert_allclose(shares[1], [1.0, 0.0], atol=1e-6)
    assert not max_min_shares(np.array([[0.0, 1.0]]), np.ones(1), np.array([1.0, 0.0])).any()
    assert max_min_shares(np.zeros((0, 2)), np.zeros(0), np.zeros(2)).shape == (0, 2)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_gavel_shares_are_feasible_and_no_worse_than_equal_ones(seed):
    rng = np.random.default_rng(seed)
    jobs, types = rng.integers(1, 6), rng.integers(1, 4)
    throughput = rng.uniform(0.05, 1, (jobs, types))
    gpus = rng.integers(1, 9, jobs).astype(float)
    capacity = rng.integers(1, 17, types).astype(float)
    shares = max_min_shares(throughput, gpus, capacity)
    assert (shares >= -1e-9).all() and (shares.sum(axis=1) <= 1 + 1e-7).all()
    assert (gpus @ shares <= capacity + 1e-6).all()
    # an equal split is feasible too: every job the same part of all types
    equal = capacity / capacity.sum()
    part = min(1.0, capacity.sum() / gpus.sum())
    gain = gpus * (throughput * shares).sum(axis=1) / (throughput @ equal)
    assert gain.min() >= (gpus * part).min() * (1 - 1e-4)


def test_gavel_rotates_equal_gangs_round_by_round():
    """Two gangs on one GPU have equal shares.

    At 360 only A has received time: B takes over. At 720 both have the same, and nobody is stopped
    for a tie. At 1080 B has more, and has ended.
    """
    ticks = np.arange(0, 2000, 360.0)
    jobs = [Gang(0, 1, 720), Gang(0, 1, 720)]
    a, b = simulate(planner("gavel"), jobs, counted(1), True, ticks)
    assert a.runs == [[0, 360], [1080, 1440]]
    assert b.runs == [[360, 1080]]


def test_gavel_stops_nobody_inside_a_round():
    jobs = [Gang(0, 1, 300), Gang(10, 1, 20)]
    a, b = simulate(planner("gavel"), jobs, counted(1), True)
    assert (a.runs, b.runs) == ([[0, 300]], [[300, 320]])


def test_gavel_places_by_shares_not_by_age():
    """The gang that keeps a tenth of its speed on the slow pool gets the fast one."""
    cluster = make_cluster(pools=(("H100-SXM", 1), ("A100-80", 1)), nodes_per_leaf=1)
    pending = [{"id": 0, "gpus": 8}, {"id": 1, "gpus": 8}]
    view = make_view(pending, cluster=cluster, speeds=[[1.0, 1.0], [1.0, 0.1]])
    policy = planner("gavel")
    first = policy.plan_for(0, view)
    placed = {first.gang: first.gpus[0] // 8}
    assert placed in ({0: 1}, {1: 0})
    agnostic = planner("gavel", heterogeneous=False)
    assert agnostic.plan_for(0, view) is not None
