"""Generators of jobs: closed forms, properties, and how close presets come to traces."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from job_draws import draw

from gpuyard.envs.workload.jobs.arrivals import Arrivals
from gpuyard.envs.workload.jobs.durations import from_quantiles, lognormal_mixture
from gpuyard.envs.workload.jobs.presets import PRESETS, preset


def test_mean_of_a_single_lognormal_is_the_closed_form():
    times = lognormal_mixture([1.0], [5.0], [0.5], 1e-3, 1e6)
    assert times.mean_s == pytest.approx(math.exp(5.0 + 0.125), rel=1e-3)
    assert times.quantile(np.array([0.5]))[0] == pytest.approx(math.exp(5.0), rel=1e-3)


@given(cap=st.floats(1.0, 200.0))
def test_a_cap_gives_the_distribution_of_the_minimum(cap):
    times = from_quantiles((0.0, 0.3, 0.3, 1.0), (2.0, 4.0, 9.0, 100.0))
    p = (np.arange(20_000) + 0.5) / 20_000
    assert times.capped(cap).mean_s == pytest.approx(
        np.minimum(times.quantile(p), cap).mean(), rel=2e-3
    )


def test_hours_and_bursts_shape_the_arrivals():
    hours = (0.0,) * 12 + (1.0,) * 11 + (2.0,)
    at = Arrivals(100.0, hours=hours, start_hour=0).sample(np.random.default_rng(1), 50_000)
    hour = ((at + 12 * 3600) // 3600 % 24).astype(int)  # the first job comes at 12 h or just after
    counts = np.bincount(hour, minlength=24)
    assert counts[1:12].sum() == 0
    assert counts[23] / counts[12:22].mean() == pytest.approx(2, rel=0.1)
    assert 50_000 / (at[-1] / 3600) == pytest.approx(100, rel=0.02)


@pytest.mark.parametrize("shape", [0.3, 1.0, 4.0])
def test_counts_per_window_are_negative_binomial(shape):
    source = Arrivals(60.0, burst_shape=shape, window_s=600)
    at = source.sample(np.random.default_rng(2), 60_000)
    mean = 60.0 / 6
    # windows of a sample start at its first arrival: whole windows lie in two of the process
    counts = np.histogram(at, np.arange(0, at[-1], 60.0))[0]  # short windows: inside one
    assert counts.mean() == pytest.approx(mean / 10, rel=0.08)
    # variance of a Poisson count with a gamma rate: m + m^2 / shape
    assert counts.var() == pytest.approx(mean / 10 + (mean / 10) ** 2 / shape, rel=0.15)


@given(
    name=st.sampled_from(sorted(PRESETS)),
    n=st.integers(1, 300),
    seed=st.integers(0, 1000),
    max_gpus=st.sampled_from([None, 4, 100]),
)
@settings(max_examples=60, deadline=None)
def test_every_sample_is_a_sound_stream(name, n, seed, max_gpus):
    source = preset(name).capped(max_gpus, 5000.0)
    jobs = draw(source, n, seed)
    assert len(jobs) == n and jobs.arrival_s[0] == 0
    assert np.all(np.diff(jobs.arrival_s) >= 0) and np.all(np.isfinite(jobs.arrival_s))
    assert jobs.gpus.min() >= 1 and jobs.gpus.max() <= (max_gpus or 10_000)
    assert np.all((jobs.duration_s > 0) & np.isfinite(jobs.duration_s))
    assert np.all((jobs.profile >= 0) & (jobs.profile < len(jobs.profiles)))
    pairs = set(source.sizes)
    assert {(jobs.profiles[p], int(g)) for p, g in zip(jobs.profile, jobs.gpus, strict=True)} <= (
        pairs
    )
    again = draw(source, n, seed)
    assert all(np.array_equal(getattr(again, f), getattr(jobs, f)) for f in ("gpus", "arrival_s"))


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_mean_work_is_that_of_a_sample(name):
    source = preset(name).capped(None, 20_000.0)  # no tail: the mean of a sample comes to rest
    jobs = draw(source, 200_000)
    assert (jobs.gpus * jobs.duration_s).mean() == pytest.approx(source.mean_gpu_s, rel=0.02)


# --- presets against the traces ------------------------------------------------------------------


@pytest.fixture(scope="module")
def fits(data_dir):
    """The script that compares presets and traces."""
    needed = ("philly", "helios", "acme", "alibaba-gpu-v2023", "alibaba-spot-gpu-v2026")
    for folder in needed:
        if not (data_dir / "traces" / folder).is_dir():
            pytest.skip(f"no traces at {data_dir / 'traces' / folder}")
    import job_fits

    job_fits.TRACES = data_dir / "traces"
    return job_fits


@pytest.mark.parametrize(
    ("name", "ks_times", "ks_counts"),
    [  # distances of the docs, with room for another seed
        ("philly", 0.06, 0.30),
        ("helios", None, 0.20),
        ("acme", 0.06, 0.05),
        ("alibaba", 0.03, 0.03),
        ("spot", None, 0.13),
    ],
)
def test_presets_come_as_close_to_the_traces_as_documented(name, ks_times, ks_counts, fits, capsys):
    errors = fits.compare(name)
    assert errors["size_share"] < 0.005
    assert errors["ks_counts"] < ks_counts
    assert all(error < ks_times for key, error in errors.items() if key.startswith("ks_") and
               key != "ks_counts")  # fmt: skip
    for key, ratio in errors.items():
        if key in ("jobs per hour", "mean GPUs") or key.startswith("run time at"):
            assert ratio == pytest.approx(1, abs=0.06), key
        if key.startswith(("median", "dispersion")):
            assert ratio == pytest.approx(1, abs=0.15), key
