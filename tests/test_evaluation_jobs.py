"""Metrics of training jobs against hand calculation and the worked examples of their sources."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpuyard.evaluation import plots
from gpuyard.evaluation.jobs import (
    finish_time_fairness,
    jain,
    job_metrics,
    mean_contenders,
    slowdown,
    tenant_means,
)

JOBS = {
    # A holds all 8 GPUs, B waits for it (30 s of that for the network), C comes and goes quickly
    "arrival_s": np.array([0.0, 0.0, 150.0]),
    "start_s": np.array([0.0, 100.0, 150.0]),
    "finish_s": np.array([100.0, 200.0, 155.0]),
    "gpus": np.array([8, 4, 4]),
    "duration_s": np.array([100.0, 80.0, 5.0]),
    "waited_s": np.array([0.0, 100.0, 0.0]),
    "ran_s": np.array([100.0, 100.0, 5.0]),
    "network_wait_s": np.array([0.0, 30.0, 0.0]),
    "tenant": np.array([0, 1, 0]),
    "preemptions": np.zeros(3, int),
    "failures": np.zeros(3, int),
    "priority": np.zeros(3),
}


def test_an_episode_by_hand():
    metrics = job_metrics(JOBS, num_gpus=8)
    assert metrics["jct_mean_s"] == pytest.approx((100 + 200 + 5) / 3)
    assert metrics["jct_p50_s"] == 100.0
    assert metrics["jct_p95_s"] == pytest.approx(100 + 0.9 * 100)  # linear between 2nd and 3rd
    assert metrics["jrt_mean_s"] == pytest.approx(205 / 3)
    assert metrics["jwt_mean_s"] == pytest.approx(100 / 3)
    assert metrics["network_wait_mean_s"] == pytest.approx(10.0)
    assert metrics["gpu_wait_mean_s"] == pytest.approx(70 / 3)
    assert metrics["network_wait_share"] == pytest.approx(0.3)
    assert metrics["slowdown_mean"] == pytest.approx((1 + 200 / 80 + 1) / 3)
    assert metrics["run_slowdown_mean"] == pytest.approx((1 + 100 / 80 + 1) / 3)
    assert metrics["makespan_s"] == 200.0
    assert metrics["utilisation"] == pytest.approx((800 + 400 + 20) / (8 * 200))
    assert metrics["jain_jobs"] == pytest.approx(4.5**2 / (3 * (1 + 6.25 + 1)))
    assert metrics["jain_tenants"] == pytest.approx(3.5**2 / (2 * (1 + 6.25)))
    assert metrics["rho_max"] == pytest.approx(2.5)


def test_bounded_slowdown_counts_short_jobs_as_ten_seconds():
    jobs = {
        "arrival_s": np.zeros(3),
        "finish_s": np.array([4.0, 50.0, 300.0]),
        "duration_s": np.array([2.0, 1.0, 100.0]),
    }
    np.testing.assert_allclose(slowdown(jobs), [1.0, 5.0, 3.0])


def test_contenders_and_fairness_by_hand():
    # in the system: 2 on [0, 100], 1 on [100, 150], 2 on [150, 155], 1 on [155, 200]
    contenders = [2.0, (200 + 50 + 10 + 45) / 200, 2.0]
    np.testing.assert_allclose(mean_contenders(JOBS), contenders)
    # A's half of the cluster is 4 GPUs, so that its 8 would take turns: 200 s; B's and C's gangs
    # fit into their shares
    np.testing.assert_allclose(
        finish_time_fairness(JOBS, 8), [100 / 200, 200 / 80, 5 / 5], rtol=1e-12
    )


def test_a_fair_share_has_rho_one():
    """N equal jobs of all GPUs, started together and served in turns, all finish after N d."""
    n, d = 4, 50.0
    jobs = {
        "arrival_s": np.zeros(n),
        "finish_s": np.full(n, n * d),
        "gpus": np.full(n, 16),
        "duration_s": np.full(n, d),
    }
    np.testing.assert_allclose(finish_time_fairness(jobs, 16), 1.0)


def test_unfinished_jobs_contend_but_are_not_measured():
    jobs = {key: column.copy() for key, column in JOBS.items()}
    jobs["finish_s"][1] = jobs["waited_s"][1] = jobs["ran_s"][1] = np.nan
    rho = finish_time_fairness(jobs, 8)
    assert rho[0] == pytest.approx(0.5) and np.isnan(rho[1])
    metrics = job_metrics(jobs, 8)
    assert metrics["jct_mean_s"] == pytest.approx(52.5)
    assert all(np.isfinite(value) for value in metrics.values())
    jobs["finish_s"][:] = np.nan
    assert job_metrics(jobs, 8) == {}


def test_jain_as_in_the_report():
    # Jain, Chiu and Hawe (1984): a fair share for k of n users and nothing for the rest is k/n
    assert jain(np.array([1.0, 1.0, 0.0, 0.0, 0.0])) == pytest.approx(0.4)
    assert jain(np.full(7, 3.3)) == pytest.approx(1.0)


def test_tenant_means():
    means = tenant_means(np.array([1.0, 4.0, 3.0, 8.0]), np.array([5, 2, 5, 2]))
    np.testing.assert_allclose(means, [6.0, 2.0])


# on a busy machine drawing is slow, which Hypothesis takes for a fault of the test
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(0, 1e4), st.floats(1, 1e4)).map(lambda p: (p[0], p[0] + p[1])),
        min_size=1,
        max_size=12,
    )
)
def test_contenders_against_a_slow_count(spans):
    arrival, finish = np.array(spans).T
    fast = mean_contenders({"arrival_s": arrival, "finish_s": finish})
    for i, (begin, end) in enumerate(spans):
        overlap = sum(max(0.0, min(end, e) - max(begin, b)) for b, e in spans)
        assert fast[i] == pytest.approx(overlap / (end - begin), rel=1e-6)


@pytest.mark.parametrize("preempted", [False, True])
def test_gantt_is_drawn(tmp_path, preempted):
    image = pytest.importorskip("matplotlib.image")
    jobs = {key: column.copy() for key, column in JOBS.items()}
    jobs["preemptions"][1] = preempted
    jobs["finish_s"][2] = np.nan
    plots.gantt(jobs, "by hand", tmp_path / "gantt.png")
    assert image.imread(tmp_path / "gantt.png").std() > 0.01


def test_what_is_held_over_time():
    times, gpus = plots.over_time(JOBS["gpus"], JOBS["start_s"], JOBS["finish_s"])
    np.testing.assert_allclose(times, [0, 100, 150, 155, 200])
    np.testing.assert_array_equal(gpus, [8, 4, 8, 4, 0])
