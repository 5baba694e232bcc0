"""Gangs of replicas that are preempted: whose they may be, what KAI does, and what it costs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cluster_worlds import GPUS_PER_NODE, Check, apart, make, play, service, small

from gpuyard import baselines
from gpuyard.baselines.gang.kai import shares_of
from gpuyard.envs.cluster_view import Plan
from gpuyard.envs.engine.gangs.records import PENDING, RUNNING, UNSEEN
from gpuyard.envs.engine.serving.records import QUEUED, SERVING
from gpuyard.envs.scenario import ScenarioError, from_dict

TRAIN, INFERENCE = 50 / 125, 1.0
"""KAI's priority classes ``train`` and ``inference`` (docs/priority) on a scale up to 1."""
PREEMPTION = {"preemption": True, "preempt_s": 0.0, "protected_priority": 100 / 125}
"""KAI's classes from 100 on are not preempted."""
WORKLOAD = {"preset": "chat", "num_requests": 300, "rate_per_s": 1.0, "max_tokens": 2048}
KAI = "compose:routing/least-requests+gang/kai-fair-share+scaling/fixed"


def world(tmp_path: Path, jobs: str, deployed: dict[str, Any], **tables: Any) -> Any:
    """Return 24 GPUs on 6 nodes with a job list and a service whose replicas take a node each."""
    path = tmp_path / "jobs.csv"
    path.write_text(f"arrival_s,gpus,duration_s,tenant,priority\n{jobs}")
    deployed = {"tp": GPUS_PER_NODE, "workload": WORKLOAD, **deployed}
    table: dict[str, Any] = {
        "cluster": {
            "pools": [{"gpu": "A100-80", "nodes": 6, "gpus_per_node": GPUS_PER_NODE}],
            "fabric": {"nodes_per_leaf": 3},
        },
        "jobs": {"trace": str(path), "tenants": tables.pop("tenants", [])},
        "network": {"fidelity": "none"},
        "scheduler": PREEMPTION,
        "scaler": {"interval_s": 0.0},
        "deployments": [service("chat", **deployed)],
        **tables,
    }
    return make(from_dict(table, "preempted"))


def phases(env: Any) -> list[int]:
    return env._world.state["replicas"]["phase"][0].tolist()


def now_s(env: Any) -> float:
    return float(env._world.clock["now_s"][0])


def status(env: Any) -> list[int]:
    return env._world.state["jobs"]["status"][0].tolist()


def until(env: Any, holds: Any, policy: Any = None) -> None:
    """Play by a policy until then: by default the last replica, the first start, no preemption."""
    observation = env._world.first_observation(env._outputs)
    for _ in range(4000):
        if holds(env):
            return
        if policy is None:
            feasible = np.flatnonzero(env.action_masks() & ~is_preempt(env))
            action = int(feasible[-1 if env._world.clock["due"][0] == 0 else 0])
        else:
            action = int(policy.act(observation))
        observation = env.step(action)[0]
    raise AssertionError("that moment never came")


def is_preempt(env: Any) -> np.ndarray:
    """Tell which candidates preempt, bool (C,)."""
    return column(env, "place.is_preempt") > 0


def column(env: Any, name: str) -> np.ndarray:
    rows = env._world.first_observation(env._outputs)
    return env.layout.read(rows, "candidates", name)


def begin(env: Any) -> Any:
    """Begin an episode under KAI, with all replicas serving; returns the policy."""
    policy = baselines.make(KAI)
    policy.reset(env.scenario, 1, 0)
    policy.attach(env)
    env.reset(seed=0)
    until(env, lambda env: set(phases(env)) == {SERVING}, policy)
    return policy


@pytest.mark.parametrize(
    ("preemptibility", "which"),
    [("non-preemptible", []), ("semi-preemptible", [2, 3]), ("preemptible", [0, 1, 2, 3])],
)
def test_kai_keeps_the_core_of_a_semi_preemptible_workload(tmp_path, preemptibility, which):
    """KAI's example of a tree of 4 replicas of which 2 are core, and its two edge cases.

    Source: kai-scheduler/KAI-Scheduler, docs/elastic and examples/semi-preemptible
    (``minSubGroup: 2`` of 4): the others are evicted, each as a whole.
    """
    deployed = {"min": 2, "initial": 4, "max": 4, "preemptibility": preemptibility}
    env = world(tmp_path, f"0,8,900,a,{INFERENCE}\n100,4,900,a,0.4\n", deployed)
    env.reset(seed=0)
    until(env, lambda env: now_s(env) >= 100.0)
    specs = env._world.shared["replica_specs"]
    running = env.view().running
    mine = running[running["service"] >= 0]
    stoppable = set(mine["id"][mine["blocked"] == 0].tolist())
    assert np.flatnonzero(np.isin(specs["gang"], list(stoppable))).tolist() == which
    assert is_preempt(env).sum() == len(stoppable), "rows for these, and none for the job"
    if which:
        rows = is_preempt(env)
        assert column(env, "preempt.is_base")[rows].sum() == (0 in which)
        assert column(env, "preempt.replicas")[rows].sum() == pytest.approx(len(which), rel=1e-5)


def test_running_replicas_are_part_of_what_their_queue_asks_for(tmp_path):
    """Deployments in no tenant's queue, 24 GPUs: 8 run there, and a job's 4; nobody waits.

    KAI counts pods that run and pods that wait (``proportion``, updateQueuesCurrentResourceUsage
    of kai-scheduler/KAI-Scheduler), so the fair shares are what each holds.
    """
    deployed = {"min": 2, "initial": 2, "max": 2}
    tenants = [{"name": "a", "deserved": 8}]
    env = world(tmp_path, f"0,4,900,a,{TRAIN}\n", deployed, tenants=tenants)
    begin(env)
    view = env.view()
    assert not len(view.pending) and view.running["service"].tolist() == [-1]
    shares = shares_of(view)
    assert shares.held.tolist() == [4, 8] and shares.fair.tolist() == [4, 8]


def test_kai_reclaims_replicas_over_quota_and_no_core_ones(tmp_path):
    """Training deserves 16 of 24 GPUs and holds 8; two core replicas deserve 8, two are beyond.

    A gang of 8 arrives: within the quota of its queue it takes back what the other one holds beyond
    its own, which are the two elastic replicas as wholes. The next one would be over quota: it
    waits, for core replicas are safe whoever asks (docs/elastic, docs/fairness of KAI).
    """
    tenants = [{"name": "train", "deserved": 16}, {"name": "infer", "deserved": 8, "share": 0}]
    jobs = f"0,8,900,train,{TRAIN}\n100,8,100,train,{TRAIN}\n110,4,50,train,{TRAIN}\n"
    deployed = {"min": 2, "initial": 4, "max": 4, "preemptibility": "semi-preemptible"}
    env = world(tmp_path, jobs, {**deployed, "queue": "infer"}, tenants=tenants)
    policy = begin(env)
    assert env.view().queues["held"].tolist() == [8, 16]
    until(env, lambda env: status(env)[-2] == RUNNING, policy)
    assert now_s(env) == 100.0 and phases(env) == [SERVING, SERVING, QUEUED, QUEUED]
    info = env._info()
    assert info["replicas_preempted"] == 2 and info["place.preemptions"] == 2
    assert env.view().queues["held"].tolist() == [16, 8]
    until(env, lambda env: now_s(env) > 111.0, policy)
    assert status(env)[-1] == PENDING and phases(env)[:2] == [SERVING, SERVING]
    until(env, lambda env: phases(env) == [SERVING] * 4, policy)
    assert 255.0 <= now_s(env) < 270.0, "they are back when both gangs have ended"


def test_a_replica_of_higher_priority_preempts_training_in_its_queue(tmp_path):
    """KAI's example of docs/priority: a queue of limit 1; ``train`` goes, ``build`` comes.

    Here the queue holds one node, the newcomer is a deployment, and it counts towards the limit.
    """
    tenants = [{"name": "test", "quota": 4, "deserved": 4}]
    deployed = {"max": 1, "asked_at_s": 50.0, "queue": "test", "priority": INFERENCE}
    env = world(tmp_path, f"0,4,900,test,{TRAIN}\n", deployed, tenants=tenants)
    begin(env)
    jobs = env._world.state["jobs"][0]
    assert jobs["status"].tolist() == [RUNNING, PENDING] and jobs["preemptions"][1] == 1
    assert jobs["start_s"][0] == 50.0 and env.view().queues["held"].tolist() == [4]
    assert "replicas_preempted" not in env._info(), "it cannot be preempted itself"


def test_requests_of_a_preempted_replica_go_on_elsewhere(tmp_path):
    """As many are handed back as its row says; each keeps its tokens, and ends."""
    deployed = {"min": 1, "initial": 2, "max": 2, "preemptibility": "semi-preemptible"}
    deployed["workload"] = {**WORKLOAD, "rate_per_s": 8.0}
    env = world(tmp_path, "0,16,900,a,1\n20,8,10,a,1\n", deployed)
    env.reset(seed=0)
    until(env, lambda env: now_s(env) >= 20.0 and int(env._world.clock["due"][0]) == 1)
    (row,) = np.flatnonzero(is_preempt(env))
    on = env._world.state["requests"]["replica"][0] == 1
    on &= np.isnan(env._world.state["requests"]["finish_s"][0])
    assert column(env, "preempt.in_flight")[row] == pytest.approx(on.sum(), rel=1e-5)
    assert on.sum() > 0
    generated = env._world.state["requests"]["generated"][0][on].copy()
    *_, info = env.step(int(row))
    assert phases(env) == [SERVING, QUEUED] and info["handed_back"] == on.sum()
    assert (env._world.state["requests"]["generated"][0][on] >= generated).all()
    until(env, lambda env: np.isfinite(env._world.state["requests"]["finish_s"][0][on]).all())
    assert (env._world.state["requests"]["replica"][0][on] == 0).all()


@pytest.mark.parametrize("delay_s", [0.0, 14_400.0], ids=["one gang", "gangs of replicas"])
def test_a_base_gang_goes_as_a_whole(tmp_path, delay_s):
    """KAI evicts a gang that would fall below its minimum; a scaled replica serves on."""
    deployed = {"min": 2, "initial": 3, "max": 3, "termination_delay_s": delay_s}
    deployed |= {"preemptibility": "preemptible"}
    env = world(tmp_path, "0,12,900,a,1\n60,8,10,a,1\n", deployed)
    env.reset(seed=0)
    until(env, lambda env: now_s(env) >= 60.0)
    rows = np.flatnonzero(is_preempt(env) & (column(env, "preempt.is_base") > 0))
    assert len(rows) == (2 if delay_s else 1)
    assert column(env, "preempt.replicas")[rows] == pytest.approx(2.0, rel=1e-5)
    *_, info = env.step(int(rows[0]))
    assert phases(env) == [QUEUED, QUEUED, SERVING] and info["replicas_preempted"] == 2
    assert info["terminations"] == info["evictions"] == 0
    gangs = env._world.state["jobs"][0]
    assert gangs["status"][0] == PENDING and gangs["gpus"][0] == 8
    if delay_s:
        assert gangs["status"][1:3].tolist() == [UNSEEN, UNSEEN]
    base = env.view().pending[0]
    assert (base["id"], base["is_base"], base["blocked"]) == (0, 1, 1), "not at this moment again"
    until(env, lambda env: phases(env) == [SERVING] * 3)


def test_a_plan_that_names_two_replicas_of_a_base_gang_stops_it_once(tmp_path):
    deployed = {"min": 2, "initial": 2, "max": 2, "termination_delay_s": 60.0}
    deployed |= {"preemptibility": "preemptible"}
    env = world(tmp_path, "0,16,900,a,1\n60,8,10,a,1\n", deployed)
    env.reset(seed=0)
    until(env, lambda env: now_s(env) >= 60.0)
    view = env.view()
    both = view.running["id"][view.running["service"] >= 0].tolist()
    gpus = np.flatnonzero(np.isin(view.gpu_job, both))
    assert len(both) == 2 and len(gpus) == 8
    assert env._info()["replicas_preempted"] == 0
    env.propose(Plan(int(view.pending["id"][0]), gpus, preempt=tuple(both)))
    *_, info = env.step(int(np.flatnonzero(column(env, "place.is_own"))[0]))
    assert info["replicas_preempted"] == 2 and phases(env) == [QUEUED, QUEUED]
    assert info["invalid_actions"] == 0
    assert env._world.state["jobs"]["start_s"][0, -1] == 60.0


def test_nothing_is_lost_while_replicas_are_preempted():
    """Random decisions, a failure every 12 s: all that holds elsewhere holds here."""
    env = make(
        small(
            service("chat", min=2, max=3, preemptibility="preemptible", termination_delay_s=6.0),
            apart("code", preemptibility="semi-preemptible"),
            name="preempted",
            scheduler={"preemption": True, "preempt_s": 2.0, "running_rows": 1},
            faults={"node_mtbf_h": 0.02, "repair_h": 0.005},
        )
    )
    handed_back = 0.0
    for seed in range(2):
        found = play(env, seed, Check())
        assert found["terminated"] and found["route.finished"] == 120
        assert found["replicas_preempted"] > 0
        of_each = [found[f"slo_attainment/service={name}"] for name in ("chat", "code")]
        assert found["slo_attainment"] == pytest.approx(np.mean(of_each)), "60 requests each"
        handed_back += found["handed_back"]
    assert handed_back > 0


@pytest.mark.parametrize(
    ("tables", "says"),
    [
        ({"preemptibility": "elastic"}, r"deployments\[0\].preemptibility = 'elastic'"),
        (
            {"preemptibility": "preemptible", "preemption": False},
            r"deployments\[0\].preemptibility = 'preemptible' needs scheduler.preemption = true",
        ),
        ({"queue": "b"}, r"deployments\[0\].queue = 'b' is no tenant's; use one of a"),
        ({"queue": "a", "quota": 4, "min": 2}, "a gang of 8 GPUs never starts: queue 'a' holds at"),
    ],
)
def test_what_cannot_be_is_refused(tables, says):
    tables = dict(tables)
    tenants = [{"name": "a", "quota": tables.pop("quota", 0)}]
    scheduler = {"preemption": tables.pop("preemption", True)}
    deployed = service("chat", tp=GPUS_PER_NODE, **tables)
    with pytest.raises(ScenarioError, match=says):
        small(deployed, jobs={"tenants": tenants, "max_gpus": 4}, scheduler=scheduler)


def test_a_queue_may_be_of_deployments_alone():
    tenants = [{"name": "train"}, {"name": "infer", "share": 0.0}]
    scenario = small(service("chat", queue="infer"), jobs={"tenants": tenants})
    jobs = scenario.jobs.sample(np.random.default_rng(0))
    assert set(jobs.tenant.tolist()) == {0}
    with pytest.raises(ScenarioError, match="share = 0 of all"):
        small(jobs={"tenants": tenants[1:]})
