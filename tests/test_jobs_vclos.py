"""Jobs of the vClos study: published numbers."""

import math

import numpy as np
import pytest
from job_draws import draw

from gpuyard.envs.perf.training.vclos import PANGU, SHARES
from gpuyard.envs.workload.jobs import vclos


def test_vclos_sizes_are_those_of_the_shipped_list():
    jobs = draw(vclos.generator())
    assert jobs.gpus.mean() == pytest.approx(251, abs=5)
    published = {8: 8.92, 64: 30.02, 128: 13.98, 192: 0.62, 256: 10.02, 384: 0.10, 512: 36.34}
    assert set(np.unique(jobs.gpus)) <= published.keys()
    for gpus, percent in published.items():
        assert 100 * np.mean(jobs.gpus == gpus) == pytest.approx(percent, abs=1.5)


def compute_s(jobs):
    """Undo the communication: its share, read off the profile's name, times the job's messages."""
    shares = {f"{name}-b{batch}": s for name in SHARES for batch, s in SHARES[name].items()}
    shares["Pangu"] = sum(PANGU.values())
    by_profile = np.array([1 - shares[name.split("/")[1]] for name in jobs.profiles])
    compute = by_profile[jobs.profile]
    return jobs.duration_s * compute / (compute + (1 - compute) * jobs.comm_scale)


def test_vclos_compute_times_have_the_published_quantiles():
    seconds = np.concatenate([compute_s(draw(vclos.generator(), seed=s)) for s in range(20)])
    assert vclos.COMPUTE.mean_s == pytest.approx(3964.7, rel=1e-3)
    assert seconds.mean() == pytest.approx(3964.7, rel=0.03)
    assert seconds.max() == pytest.approx(96_000, rel=0.01)
    # half of the list has the shortest time
    for percent, published in ((49, 652.3), (75, 880), (90, 6523), (95, 22_830), (99, 65_230)):
        assert np.percentile(seconds, percent) == pytest.approx(published, rel=0.05)


@pytest.mark.parametrize(
    ("interarrival_s", "published"),
    [
        (241, (0.62, 0.95)),
        (285, (0.53, 0.81)),
        (360, (0.42, 0.64)),
        (375, (0.40, 0.61)),
        (390, (0.38, 0.59)),
        (421, (0.36, 0.55)),
        (555, (0.27, 0.41)),
    ],
)
def test_vclos_offered_load_is_the_published_one(interarrival_s, published):
    jobs = vclos.generator(interarrival_s)
    load = jobs.mean_gpu_s / interarrival_s / vclos.GPUS
    assert published[0] <= load <= published[1]
    # the lower of the two counts compute time alone
    gpus = [c.gpus[0] * c.shares[0] * c.durations.mean_s for c in jobs.classes]
    assert sum(gpus) / interarrival_s / vclos.GPUS == pytest.approx(published[0], abs=0.005)


def test_vclos_load_of_a_sample_is_the_expected_one():
    jobs = draw(vclos.generator(241), 100_000)
    load = (jobs.gpus * jobs.duration_s).sum() / jobs.arrival_s[-1] / vclos.GPUS
    assert load == pytest.approx(vclos.generator(241).mean_gpu_s / 241 / vclos.GPUS, rel=0.03)


def test_vclos_draws_model_and_pattern_by_size():
    jobs = draw(vclos.generator(), 20_000)
    pattern = np.array([name.split("/")[2] for name in jobs.profiles])[jobs.profile]
    power = np.isin(jobs.gpus, (8, 64, 128, 256, 512))
    assert set(pattern[~power]) == {"ring"}
    for name, share in (("halving_doubling", 0.5), ("ring", 0.2), ("pairwise", 0.3)):
        assert np.mean(pattern[power] == name) == pytest.approx(share, abs=0.015)
    small = jobs.profile[pattern == "ring"]
    assert len(np.unique(small)) == 17  # models and batches of the table
    assert jobs.comm_scale.min() >= 0.5 and jobs.comm_scale.max() <= 1.5
    assert jobs.comm_scale.std() == pytest.approx(1 / math.sqrt(12), rel=0.03)


def test_vclos_arrivals_are_poisson():
    gaps = np.diff(draw(vclos.generator(360), 50_000).arrival_s)
    assert gaps.mean() == pytest.approx(360, rel=0.02)
    assert gaps.std() / gaps.mean() == pytest.approx(1, abs=0.02)
