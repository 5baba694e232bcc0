"""The [jobs] table with a generator: rates, levels, tenants, bad input."""

from pathlib import Path

import numpy as np
import pytest

from gpuyard.envs.hardware.clusters import cluster
from gpuyard.envs.scenario.checks import ScenarioError
from gpuyard.envs.scenario.jobs import read_jobs

HERE = Path(".")


@pytest.fixture(scope="module")
def small():
    return cluster("default")


@pytest.fixture(scope="module")
def large():
    return cluster("vclos-8192")


def test_load_is_the_offered_share_of_the_cluster(small):
    for load in (0.5, 1.2):
        workload = read_jobs({"load": load, "num_jobs": 40_000}, HERE, small)
        jobs = workload.sample(np.random.default_rng(0))
        offered = (jobs.gpus * jobs.duration_s).sum() / jobs.arrival_s[-1] / small.num_gpus
        assert offered == pytest.approx(load, rel=0.05)


def test_rates_of_a_generator(small):
    def rate(**table):
        return read_jobs(table, HERE, small).source.arrivals.rate_per_h

    assert rate(rate_per_h=12.0) == 12
    assert rate(interarrival_s=241) == pytest.approx(3600 / 241)
    assert rate(rate_scale=2.0) == pytest.approx(2 * rate())
    assert rate() == pytest.approx(rate(load=0.85))  # as made, on 512 GPUs


def test_levels_by_size(small, large):
    rows = np.array([1, 8, 9, 64, 65, 512])
    required, preferred = read_jobs({}, HERE, small).levels(rows)
    assert required.tolist() == [3] * 6
    assert preferred.tolist() == [1, 1, 1, 1, 2, 2]  # a leaf has 64 GPUs, the one pod all 512
    workload = read_jobs({"preferred": "node", "required": "leaf", "max_gpus": 64}, HERE, small)
    assert workload.levels(rows[:4])[1].tolist() == [0, 0, 1, 1]


def test_tenants_and_priorities_of_a_generator(small):
    table = {
        "tenants": [{"name": "a", "quota": 256, "share": 3.0}, {"name": "b"}],
        "high_priority_share": 0.25,
        "num_jobs": 20_000,
    }
    workload = read_jobs(table, HERE, small)
    jobs = workload.sample(np.random.default_rng(0))
    assert workload.tenants == jobs.tenants == ("a", "b")
    assert [queue.limit for queue in workload.queues] == [256, 512]
    assert np.mean(jobs.tenant == 0) == pytest.approx(0.75, abs=0.01)
    assert np.mean(jobs.priority == 1) == pytest.approx(0.25, abs=0.01)


def test_profiles_can_be_chosen(small):
    workload = read_jobs({"profiles": {"VGG-16": 1.0, "ResNet-50": 3}}, HERE, small)
    assert set(workload.profiles) == {"VGG-16", "ResNet-50"}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"num_jobs": 0}, "num_jobs = 0"),
        ({"num_jobs": 2.5}, "whole number"),
        ({"preset": "chat"}, "choose one of mixed"),
        ({"load": 0}, "jobs.load = 0"),
        ({"load": 1.0, "rate_per_h": 3.0}, "keep one"),
        ({"rate_scale": float("inf")}, "finite"),
        ({"required": "rack"}, "node, leaf, pod, zone"),
        ({"required": "leaf"}, "a gang of 128 GPUs never fits.*max_gpus = 64"),
        ({"preset": "vclos", "cluster": 1}, "jobs.cluster is unknown"),
        ({"max_gpus": 0}, "max_gpus = 0"),
        ({"profiles": {"VGG-16": -1.0}}, "share above 0"),
        ({"arrivals": {"hours": [1, 2]}}, "24 numbers"),
        ({"arrivals": {"burst_shape": -1.0}}, "burst_shape"),
        ({"tenants": [{"name": "a", "quota": 64}]}, "quota of 64 GPUs, but jobs of 128"),
        ({"tenants": [{"quota": 64}]}, "name"),
        ({"tenants": {"name": "a"}}, r"\[\[jobs.tenants\]\]"),
        ({"trace": "x.csv", "preset": "mixed"}, "belongs to a generator"),
        ({"high_priority_share": 2.0}, r"\[0, 1\]"),
        ({"profiles": {"VGG-17": 1.0}}, "'VGG-17'.*VGG-16"),
        ({"profiles": {"Llama-3-405B": 1.0}}, "GiB a GPU.*jobs.profiles"),
        ({"preset": "vclos", "max_gpus": 96}, "power of two"),
        ({"durations": "x.csv"}, "set jobs.trace"),
    ],
)
def test_bad_tables_are_refused(table, message, small):
    with pytest.raises(ScenarioError, match=message):
        read_jobs(table, HERE, small)


def test_gangs_that_fit_only_a_small_pool_are_refused():
    """Of the mixed cluster only 40 A100 of 80 GB hold a rank of Llama-3-70B, and not all 64."""
    mixed = cluster("alibaba-like")
    table = {"profiles": {"Llama-3-70B": 1.0}, "max_gpus": 64}
    with pytest.raises(
        ScenarioError, match=r"Llama-3-70B on 64 GPUs never fits.*40 GPUs with memory"
    ):
        read_jobs(table, HERE, mixed)
    assert read_jobs({"max_gpus": 40, "profiles": {"VGG-16": 1.0}}, HERE, mixed).num_jobs == 512


def test_gangs_larger_than_the_cluster_are_refused(small):
    small_list = {"preset": "vclos", "num_jobs": 5}
    assert read_jobs(small_list, HERE, small).num_jobs == 5  # 512 of 512 fit
    with pytest.raises(ScenarioError, match="never fits"):
        read_jobs(small_list | {"required": "leaf"}, HERE, small)
