"""Intervals against hand calculation and scipy; tables and CSV."""

import math

import numpy as np
import pytest

from gpuyard.evaluation.statistics import mean_interval, paired_interval, t_quantile


@pytest.mark.parametrize(
    ("probability", "freedom", "printed"),
    [  # Student (1908) tables as printed in any textbook
        (0.975, 1, 12.7062),
        (0.975, 4, 2.7764),
        (0.975, 31, 2.0395),
        (0.95, 10, 1.8125),
        (0.995, 2, 9.9248),
    ],
)
def test_t_quantile_as_printed(probability, freedom, printed):
    assert t_quantile(probability, freedom) == pytest.approx(printed, abs=5e-5)


def test_t_quantile_against_scipy():
    stats = pytest.importorskip("scipy.stats")
    for freedom in (1, 2, 3, 7, 31, 255):
        for probability in (0.6, 0.9, 0.975, 0.999):
            expected = stats.t.ppf(probability, freedom)
            assert t_quantile(probability, freedom) == pytest.approx(expected, rel=1e-9)


def test_mean_interval_by_hand():
    # 1..5: mean 3, standard deviation sqrt(2.5), standard error sqrt(0.5), t(0.975, 4) = 2.7764
    interval = mean_interval([1, 2, 3, 4, 5])
    assert interval.mean == 3.0
    assert interval.half_width == pytest.approx(2.7764451 * math.sqrt(0.5), rel=1e-7)
    assert interval.excludes_zero


def test_one_value_has_no_interval():
    interval = mean_interval([4.0])
    assert interval.mean == 4.0 and interval.half_width == math.inf
    assert not interval.excludes_zero
    with pytest.raises(ValueError, match="no values"):
        mean_interval([])


def test_pairing_cancels_what_the_seed_brings():
    rng = np.random.default_rng(0)
    seeds = 10.0 * rng.normal(size=20)  # hard and easy seeds
    a = seeds + 1.0 + 0.1 * rng.normal(size=20)
    paired = paired_interval(a, seeds)
    assert paired.excludes_zero and paired.mean == pytest.approx(1.0, abs=0.1)
    assert mean_interval(a).half_width > 10 * paired.half_width
    with pytest.raises(ValueError, match="equal lengths"):
        paired_interval([1.0], [1.0, 2.0])


def test_paired_interval_against_scipy():
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(2, 12))
    expected = stats.ttest_rel(a, b).confidence_interval(0.95)
    interval = paired_interval(a, b)
    assert (interval.low, interval.high) == pytest.approx(tuple(expected), rel=1e-9)


def test_coverage_is_about_the_level():
    rng = np.random.default_rng(2)
    hits = [
        interval.low < 0.0 < interval.high
        for interval in (mean_interval(rng.normal(size=8)) for _ in range(400))
    ]
    assert 0.92 < np.mean(hits) < 0.98
