"""Generators of jobs and the [jobs] table: published numbers, properties, bad input."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuyard.envs.hardware.clusters import cluster
from gpuyard.envs.perf.training.vclos import PANGU, SHARES
from gpuyard.envs.scenario import from_dict
from gpuyard.envs.scenario.checks import ScenarioError
from gpuyard.envs.scenario.jobs import read_jobs
from gpuyard.envs.workload.jobs import replay, vclos
from gpuyard.envs.workload.jobs.arrivals import Arrivals
from gpuyard.envs.workload.jobs.durations import from_quantiles, lognormal_mixture
from gpuyard.envs.workload.jobs.presets import PRESETS, preset
from gpuyard.envs.workload.jobs.queues import Queue
from gpuyard.envs.workload.jobs.stream import JobStream

HERE = Path(".")


@pytest.fixture(scope="module")
def small():
    return cluster("default")


@pytest.fixture(scope="module")
def large():
    return cluster("vclos-8192")


def draw(jobs, n=5000, seed=0):
    return jobs.sample(np.random.default_rng(seed), n)


# --- the vClos study -----------------------------------------------------------------------------


def test_vclos_sizes_are_those_of_the_shipped_list():
    jobs = draw(vclos.generator())
    assert jobs.gpus.mean() == pytest.approx(251, abs=5)
    published = {8: 8.92, 64: 30.02, 128: 13.98, 192: 0.62, 256: 10.02, 384: 0.10, 512: 36.34}
    assert set(np.unique(jobs.gpus)) <= published.keys()
    for gpus, percent in published.items():
        assert 100 * np.mean(jobs.gpus == gpus) == pytest.approx(percent, abs=1.5)


def compute_s(jobs):
    """Undo the share of communication, read off the profile's name."""
    shares = {f"{name}-b{batch}": s for name in SHARES for batch, s in SHARES[name].items()}
    shares["Pangu"] = sum(PANGU.values())
    by_profile = np.array([1 - shares[name.split("/")[1]] for name in jobs.profiles])
    return jobs.duration_s * by_profile[jobs.profile]


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


# --- parts ---------------------------------------------------------------------------------------


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


# --- [jobs] --------------------------------------------------------------------------------------


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


def write(folder, text):
    (folder / "jobs.csv").write_text(text)
    return {"trace": "jobs.csv", "num_jobs": 0}


LIST = """arrival_s,gpus,duration_s,profile,tenant,priority,pool
100,8,60,VGG-16,b,0,-1
40,16,30,,a,1,0
160,1,90,ResNet-50,b,0.5,-1
"""


def test_a_plain_list_is_replayed(small, tmp_path):
    workload = read_jobs(write(tmp_path, LIST), tmp_path, small)
    jobs = workload.sample(np.random.default_rng(0))
    assert jobs.arrival_s.tolist() == [0, 60, 120]
    assert jobs.gpus.tolist() == [16, 8, 1] and jobs.duration_s.tolist() == [30, 60, 90]
    assert [jobs.tenants[t] for t in jobs.tenant] == ["a", "b", "b"]
    assert jobs.priority.tolist() == [1, 0, 0.5] and jobs.pool.tolist() == [0, -1, -1]
    assert [jobs.profiles[p] for p in jobs.profile[1:]] == ["VGG-16", "ResNet-50"]
    assert jobs.profile[0] >= 0  # drawn by size
    assert workload.sizes == read_jobs(write(tmp_path, LIST), tmp_path, small).sizes


def test_a_list_at_another_rate_and_cut(small, tmp_path):
    table = write(tmp_path, LIST) | {"load": 0.5, "max_gpus": 8, "max_duration_s": 50.0}
    jobs = read_jobs(table, tmp_path, small).sample(np.random.default_rng(0))
    work = [8 * 30, 8 * 50, 50]
    assert (jobs.gpus * jobs.duration_s).tolist() == work
    # three jobs, two gaps: a rate of one job per gap
    assert sum(work) / 3 / (jobs.arrival_s[-1] / 2) / 512 == pytest.approx(0.5)


def test_windows_start_anywhere(small, tmp_path):
    table = write(tmp_path, LIST) | {"num_jobs": 2}
    workload = read_jobs(table, tmp_path, small)
    rng = np.random.default_rng(0)
    starts = {tuple(workload.sample(rng).gpus) for _ in range(30)}
    assert starts == {(16, 8), (8, 1)}
    assert all(workload.sample(rng).arrival_s[0] == 0 for _ in range(5))


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


def test_unknown_profiles_of_a_list_are_refused(small, tmp_path):
    with pytest.raises(ScenarioError, match="VGG-99"):
        read_jobs(write(tmp_path, LIST.replace("VGG-16", "VGG-99")), tmp_path, small)


def test_gangs_that_fit_only_a_small_pool_are_refused():
    """Of the mixed cluster only 40 A100 of 80 GB hold a rank of Llama-3-70B, and not all 64."""
    mixed = cluster("alibaba-like")
    table = {"profiles": {"Llama-3-70B": 1.0}, "max_gpus": 64}
    with pytest.raises(
        ScenarioError, match=r"Llama-3-70B on 64 GPUs never fits.*40 GPUs with memory"
    ):
        read_jobs(table, HERE, mixed)
    assert read_jobs({"max_gpus": 40, "profiles": {"VGG-16": 1.0}}, HERE, mixed).num_jobs == 512


def test_quotas_of_a_list_are_by_tenant(small, tmp_path):
    table = write(tmp_path, LIST)
    quota = {"tenants": [{"name": "b", "quota": 8}]}
    assert read_jobs(table | quota, tmp_path, small).queues == (Queue("a", 512), Queue("b", 8))
    with pytest.raises(ScenarioError, match="'a' has a quota of 8 GPUs, but jobs of 16"):
        read_jobs(table | {"tenants": [{"name": "a", "quota": 8}]}, tmp_path, small)
    with pytest.raises(ScenarioError, match="'c' owns no job; use one of a, b"):
        read_jobs(table | {"tenants": [{"name": "c"}]}, tmp_path, small)


def test_pools_of_a_list_are_checked(small, tmp_path):
    with pytest.raises(ScenarioError, match=r"pool 3 .* 0 to 0"):
        read_jobs(write(tmp_path, LIST.replace(",0\n", ",3\n")), tmp_path, small)


def test_a_list_whose_jobs_come_at_once_has_no_rate(small, tmp_path):
    table = write(tmp_path, "arrival_s,gpus,duration_s\n5,1,10\n5,2,10\n")
    assert len(read_jobs(table, tmp_path, small).sample(np.random.default_rng(0))) == 2
    with pytest.raises(ScenarioError, match="arrive at once"):
        read_jobs(table | {"load": 0.5}, tmp_path, small)


def test_gangs_larger_than_the_cluster_are_refused(small):
    small_list = {"preset": "vclos", "num_jobs": 5}
    assert read_jobs(small_list, HERE, small).num_jobs == 5  # 512 of 512 fit
    with pytest.raises(ScenarioError, match="never fits"):
        read_jobs(small_list | {"required": "leaf"}, HERE, small)


def test_a_sample_takes_well_below_a_millisecond_per_512_jobs(small):
    from time import process_time

    workload = read_jobs({}, HERE, small)
    rng = np.random.default_rng(0)
    workload.sample(rng)
    best = math.inf
    for _ in range(20):
        start = process_time()
        workload.sample(rng)
        best = min(best, process_time() - start)
    assert best < 1e-3


def test_a_warm_window_begins_with_what_runs() -> None:
    """Jobs 0 and 2 of 3 earlier ones still run when job 3 arrives at 100; 1 has ended at 60."""
    stream = JobStream(
        arrival_s=np.array([0.0, 10.0, 40.0, 100.0, 110.0, 120.0, 130.0]),
        gpus=np.array([4, 2, 3, 1, 1, 1, 1], np.int32),
        duration_s=np.array([150.0, 50.0, 90.0, 5.0, 5.0, 5.0, 5.0]),
        profile=np.zeros(7, np.int16),
        comm_scale=np.ones(7, np.float32),
        priority=np.zeros(7, np.float32),
        tenant=np.zeros(7, np.int16),
        pool=np.full(7, -1, np.int16),
        profiles=("BERT-large-512",),
    )
    warm = replay.window(stream, 3, 4, warm_gpus=8)
    assert warm.arrival_s.tolist() == [0, 0, 0, 10] and warm.gpus.tolist() == [4, 3, 1, 1]
    assert warm.duration_s.tolist() == [50, 30, 5, 5]
    assert replay.window(stream, 3, 4, warm_gpus=5).gpus.tolist() == [4, 1, 1, 1]  # 4 + 3 > 5
    assert replay.window(stream, 3, 3, warm_gpus=8).gpus.tolist() == [4, 1, 1]  # half at most
    cold = replay.window(stream, 3, 4)
    assert cold.arrival_s.tolist() == [0, 10, 20, 30] and cold.duration_s.tolist() == [5] * 4


def test_a_job_list_keeps_what_it_does_not_say(tmp_path):
    """Tenants, quotas, levels, profiles, limits and the factor on the rate are the scenario's."""
    jobs = {
        "load": 0.8,
        "num_jobs": 2,
        "max_gpus": 8,
        "rate_scale": 2.0,
        "preferred": "node",
        "high_priority_share": 0.1,
        "profiles": {"ResNet-50": 1.0},
        "tenants": [{"name": "a", "quota": 64, "share": 0.5}, {"name": "b", "share": 0.5}],
    }
    base = from_dict({"cluster": {"preset": "default"}, "jobs": jobs})
    rows = "".join(f"{60 * i},{16 if i else 4},100\n" for i in range(40))
    path = tmp_path / "jobs.csv"
    path.write_text("arrival_s,gpus,duration_s\n" + rows)
    fed = base.with_trace(path).jobs
    assert fed.source.gpus.tolist() == [4] + [8] * 39
    assert fed.source.arrival_s.tolist() == [30.0 * i for i in range(40)]
    assert fed.source.profiles == ("ResNet-50",)
    assert (fed.tenants, fed.queues) == (("a", "b"), base.jobs.queues)
    assert set(fed.source.tenant.tolist()) == {0, 1}
    assert (fed.preferred, fed.num_jobs) == (base.jobs.preferred, 2)
    path.write_text("arrival_s,gpus,duration_s,profile\n0,1,5,VGG-16\n0,1,5,\n")
    said = base.with_trace(path).jobs.source
    assert [said.profiles[kind] for kind in said.profile] == ["VGG-16", "ResNet-50"]
    path.write_text("arrival_s,gpus,duration_s,tenant\n0,1,5,c\n")
    with pytest.raises(ScenarioError, match="name = 'a' owns no job; use one of c"):
        base.with_trace(path)
