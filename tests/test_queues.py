"""Queues of a scenario: what rows mean, what is refused, and what the engine keeps of them."""

from __future__ import annotations

import numpy as np
import pytest
from placement_worlds import make, play, small

from gpuyard.envs.cluster_view import Plan
from gpuyard.envs.scenario.checks import ScenarioError
from gpuyard.envs.workload.jobs.queues import Queue
from gpuyard.evaluation.jobs import shares_of_deserved

TREE = [
    {"name": "lab", "quota": 48, "weight": 2.0, "priority": 1.0},
    {"name": "vision", "parent": "lab", "deserved": 16, "guarantee": 4, "share": 0.25},
    {"name": "speech", "parent": "lab", "deserved": 8, "share": 0.25},
    {"name": "others", "deserved": 24, "quota": 40, "share": 0.5},
]
"""Two tenants in a lab, one beside it, on 64 GPUs."""


def of(tenants: list[dict], **tables):
    return small(jobs={"tenants": tenants}, **tables)


def test_tenants_come_first_and_what_is_around_them_after():
    jobs = of(TREE).jobs
    assert jobs.tenants == ("vision", "speech", "others")
    assert jobs.queues == (
        Queue("vision", 48, parent=3, deserved=16, guarantee=4),
        Queue("speech", 48, parent=3, deserved=8),
        Queue("others", 40, deserved=24),
        Queue("lab", 48, deserved=24, weight=2.0, priority=1.0),
    )


def test_by_default_a_queue_deserves_nothing_and_has_no_limit():
    assert small().jobs.queues == (Queue("all", 64),)


@pytest.mark.parametrize(
    ("tenants", "message"),
    [
        (
            [{"name": "a", "parent": "b"}],
            r"tenants\[0\].parent = 'b' leads to 'b', which is no row",
        ),
        ([{"name": "a", "parent": "a"}], "leads back to 'a'"),
        (
            [{"name": "a", "parent": "b"}, {"name": "b", "parent": "a"}],
            r"tenants\[0\].parent = 'b' leads back to 'a'",
        ),
        ([*TREE[1:], TREE[0] | {"deserved": 20}], "below 'lab' deserve 24 GPUs, more than its des"),
        ([*TREE[1:], TREE[0] | {"share": 0.5}], r"tenants\[3\].share = 0.5 is of no use: 'lab'"),
        (
            [{"name": "a", "deserved": 33, "quota": 32}],
            "'a' has .* deserved = 33 and a limit of",
        ),
        ([{"name": "a", "deserved": 3, "guarantee": 4}], "'a' has guarantee = 4, deserved = 3"),
        ([{"name": "a", "deserved": 65}], "a limit of 64 GPUs"),
        ([{"name": n, "deserved": 33} for n in "ab"], "deserve 66 GPUs, but the cluster has 64"),
        ([{"name": "a", "weight": -1.0}], "weight = -1.0 must be a finite number >= 0"),
        ([{"name": "a", "deserved": -1}], "deserved = -1 must be a whole number >= 0"),
        ([*TREE[1:], TREE[0] | {"quota": 24}], "'vision' has a quota of 24 GPUs, but jobs of 32"),
    ],
)
def test_rows_that_contradict_each_other_are_refused(tenants, message):
    with pytest.raises(ScenarioError, match=message):
        of(tenants)


def test_a_queue_of_queues_owns_no_jobs(tmp_path):
    path = tmp_path / "jobs.csv"
    path.write_text("arrival_s,gpus,duration_s,tenant\n0,1,5,lab\n1,1,5,vision\n")
    with pytest.raises(ScenarioError, match="'lab' owns jobs and is the parent of others"):
        of(TREE[:2]).with_trace(path)


def test_the_engine_keeps_the_limits_of_all_queues_around_a_gang():
    """At no decision does the lab hold more than its 48 GPUs, nor others more than their 40."""
    env = make(of(TREE, scheduler={"preemption": True}))
    seen = []

    def look(env):
        view = env.view()
        by_tenant = [view.running["gpus"][view.running["tenant"] == t].sum() for t in range(3)]
        assert view.queues["held"].tolist() == [*by_tenant, by_tenant[0] + by_tenant[1]]
        seen.append(view.queues["held"])

    play(env, 0, look)
    most = np.max(seen, axis=0)
    assert (most <= env.view().queues["limit"]).all()
    assert env.view().queue_names == ("vision", "speech", "others", "lab")
    assert env.view().queues["deserved"].tolist() == [16, 8, 24, 24]


def listed(tmp_path, rows: str, **tables):
    """A world of a job list, with preemption, stepped to the second job's arrival."""
    (tmp_path / "jobs.csv").write_text(f"arrival_s,gpus,duration_s,tenant,priority\n{rows}")
    tenants = tables.pop("tenants", [])
    rules = {"scheduler": {"preemption": True} | tables, "network": {"fidelity": "none"}}
    env = make(of(tenants, **rules).with_trace(tmp_path / "jobs.csv"))
    env.reset(seed=0)
    env.step(0)
    while len(env.view().pending) == 0:
        env.step(env.action_space.n - 2)
    return env


def propose(env, *args, **kwargs) -> int:
    """Submit a plan; return how many have been refused so far."""
    env.propose(Plan(*args, **kwargs))
    return int(env.step(env.action_space.n - 1)[4]["invalid_actions"])


def test_a_plan_may_exchange_gangs_of_a_queue_that_is_at_its_limit(tmp_path):
    """Two tenants of a lab of 32 GPUs have a gang of 32 each: one goes as the other comes."""
    lab = [{"name": "lab", "quota": 32}, *({"name": n, "parent": "lab"} for n in "ab")]
    rows = "0,32,900,a,0\n100,32,500,b,0\n200,1,500,b,0\n"
    env = listed(tmp_path, rows, tenants=lab)
    assert env.view().queues["held"].tolist() == [32, 0, 32]
    free = np.flatnonzero(env.view().gpu_job == -1)[:32]
    assert propose(env, 1, free) == 1
    now_s = env.view().now_s
    assert propose(env, 1, free, preempt=(0,)) == 1
    jobs = env.results()["jobs"]
    assert jobs["preemptions"].tolist() == [1, 0, 0] and jobs["start_s"][1] == now_s


def test_a_protected_gang_is_never_preempted(tmp_path):
    """No row offers it and a plan that stops it is refused; another gang can be stopped."""
    for priority, refused in (("1", 1), ("0.5", 0)):
        rows = f"0,32,900,a,{priority}\n100,64,500,a,0\n200,1,500,a,0\n"
        env = listed(tmp_path, rows, protected_priority=0.7)
        gang = env.view().running[0]
        assert (gang["protected"], gang["blocked"]) == (refused, refused)
        assert env.action_masks()[-10:-2].any() == (not refused)  # rows that preempt
        assert propose(env, -1, preempt=(0,)) == refused
        assert env.results()["jobs"]["preemptions"][0] == 1 - refused


def test_the_share_of_deserved_by_hand(tmp_path):
    """Each deserves 32 of 64 GPUs; a holds all of them to 900 s, b asks from 100 s on, for 500 s.

    b got 32 GPUs for 500 of 1,300 s, a all that it deserved; the lab of b the same as b.
    """
    tenants = [
        {"name": "a", "deserved": 32},
        {"name": "b", "parent": "lab", "deserved": 32},
        {"name": "lab"},
    ]
    rows = "0,32,900,a,0\n0,32,900,a,0\n100,32,500,b,0\n"
    env = listed(tmp_path, rows, tenants=tenants, preemption=False)
    done = False
    while not done:
        done = env.step(int(np.flatnonzero(env.action_masks())[0]))[2]
    table = env.results()["queues"]
    found = shares_of_deserved(table, ["a", "b", "lab"])
    assert table["due_gpu_s"] == pytest.approx([32 * 900, 32 * 1300, 32 * 1300])
    assert found == pytest.approx(
        {
            "deserved_share/tenant=a": 1.0,
            "deserved_share/tenant=b": 5 / 13,
            "deserved_share/tenant=lab": 5 / 13,
            "deserved_share_min": 5 / 13,
        }
    )


def test_where_nobody_deserves_anything_there_is_no_table_of_queues():
    assert set(make(small()).results()) == {"jobs"}
