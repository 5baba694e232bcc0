"""The [jobs] table with a job list: replayed, cut, in windows, bad input."""

from pathlib import Path

import numpy as np
import pytest

from gpuyard.envs.hardware.clusters import cluster
from gpuyard.envs.scenario import from_dict
from gpuyard.envs.scenario.checks import ScenarioError
from gpuyard.envs.scenario.jobs import read_jobs
from gpuyard.envs.workload.jobs import replay
from gpuyard.envs.workload.jobs.queues import Queue
from gpuyard.envs.workload.jobs.stream import JobStream

HERE = Path(".")


@pytest.fixture(scope="module")
def small():
    return cluster("default")


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


def test_unknown_profiles_of_a_list_are_refused(small, tmp_path):
    with pytest.raises(ScenarioError, match="VGG-99"):
        read_jobs(write(tmp_path, LIST.replace("VGG-16", "VGG-99")), tmp_path, small)


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
