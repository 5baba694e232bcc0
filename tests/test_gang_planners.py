"""What holds for all gang planners: plans are valid, every gang ends, the worlds are asked."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mini_world import Gang, check, planner, simulate
from views import PLACING, due, make_cluster, make_view

from gpuyard import baselines
from gpuyard.baselines.planner import Planner

PLANNERS = [name for name in baselines.names("gang") if isinstance(baselines.make(name), Planner)]


@st.composite
def views(draw):
    cluster = make_cluster(
        gpus_per_node=4,
        nodes_per_leaf=2,
        pools=(("H100-SXM", 4), ("A100-80", 4)),
        leafs_per_pod=2,
    )
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    running, free = [], list(rng.permutation(32))
    down = tuple(rng.choice(8, rng.integers(0, 2), replace=False))
    free = [gpu for gpu in free if gpu // 4 not in down]
    for name in range(rng.integers(0, 6)):
        pool = rng.integers(2)
        on = [gpu for gpu in free if gpu // 16 == pool][: rng.integers(1, 9)]
        if on:
            free = [gpu for gpu in free if gpu not in on]
            running.append(
                {
                    "id": name,
                    "on": on,
                    "executed_s": rng.uniform(0, 5000),
                    "start_s": rng.uniform(0, 1000),
                    "end_s": rng.uniform(500, 5000),
                    "estimate_s": rng.uniform(10, 9000),
                    "blocked": int(rng.random() < 0.2),
                    "tenant": rng.integers(2),
                }
            )
    pending = [
        {
            "id": 10 + name,
            "gpus": rng.integers(1, 17),
            "estimate_s": rng.uniform(10, 5000),
            "executed_s": rng.choice([0.0, 400.0]),
            "arrival_s": rng.uniform(0, 600),
            "required": rng.integers(4),
            "blocked": int(rng.random() < 0.2),
            "priority": rng.random(),
            "tenant": rng.integers(2),
        }
        for name in range(rng.integers(1, 7))
    ]
    speeds = rng.choice([0.0, 0.5, 1.0], (len(pending), 2))
    return make_view(
        pending,
        running,
        cluster,
        now_s=1000.0,
        down=down,
        preemption=bool(rng.random() < 0.7),
        speeds=speeds,
        running_speeds=rng.choice([0.5, 1.0], (len(running), 2)) if running else None,
        quotas=(20, 10**9),
    )


@pytest.mark.parametrize("name", PLANNERS)
@settings(max_examples=30, deadline=None)
@given(view=views())
def test_plans_are_valid(name, view):
    """Gangs complete on free GPUs of one pool and domain; only running gangs are stopped."""
    policy = baselines.make(name)
    policy.reset(PLACING, 1, 0)
    before = view.gpu_job.copy()
    plan = policy.plan_for(0, view)
    if plan is not None:
        check(view, plan)
    assert (view.gpu_job == before).all()


@pytest.mark.parametrize("preemption", [False, True])
@pytest.mark.parametrize("name", PLANNERS)
@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_every_gang_ends(name, preemption, seed):
    rng = np.random.default_rng(seed)
    jobs = [
        Gang(
            arrival_s=float(rng.uniform(0, 3000)),
            gpus=int(rng.integers(1, 17)),
            run_s=float(rng.lognormal(5, 1.5)),
            estimate_s=float(rng.lognormal(5, 1.5)),
            required=int(rng.integers(2, 4)),
            priority=float(rng.random()),
        )
        for _ in range(25)
    ]
    jobs.sort(key=lambda job: job.arrival_s)
    done = simulate(
        baselines.make(name), jobs, None, preemption, nodes=4, gpus_per_node=4, leafs_per_pod=2
    )
    for job in done:
        ran = sum(stop - start for start, stop in job.runs)
        assert ran == pytest.approx(job.run_s, abs=1e-3)
        assert preemption or len(job.runs) == 1


def test_a_planner_says_that_it_must_be_attached():
    with pytest.raises(RuntimeError, match="attach"):
        planner("srtf").act(due(np.ones((1, 3))))


def test_a_planner_proposes_in_every_world_and_waits_where_it_has_no_plan():
    class Worlds:
        def __init__(self):
            self.views = [
                make_view([{"id": 7, "gpus": 2}], nodes=1),
                make_view([{"id": 8, "gpus": 9}], nodes=1),
                make_view([{"id": 8, "gpus": 9}], nodes=1),
            ]
            self.plans = {}
            self.asked = False

        def ask_planner(self):
            self.asked = True

        def view(self, index):
            return self.views[index]

        def propose(self, index, plan):
            self.plans[index] = plan
            return 3

    worlds, policy = Worlds(), planner("easy-backfill")
    policy.attach(worlds)
    assert worlds.asked
    mask = np.array([[1, 1, 1, 0], [1, 1, 1, 0], [0, 1, 0, 0]])
    assert policy.act(due(mask)).tolist() == [3, 2, 1]
    assert worlds.asked and list(worlds.plans) == [0] and worlds.plans[0].gang == 7


def test_a_planner_leaves_worlds_alone_in_which_another_decision_is_due():
    class Worlds:
        def ask_planner(self):
            pass

        def view(self, index):
            assert index == 1
            return make_view([{"id": 7, "gpus": 2}], nodes=1)

        def propose(self, index, plan):
            assert (index, plan.gang) == (1, 7)
            return 3

    policy = planner("easy-backfill")
    policy.connect(Worlds())  # the name that attach had
    observation = due(np.array([[1, 1, 1, 0], [1, 1, 1, 0]]), ("route", "place"))
    assert policy.act(observation)[1] == 3
    env = SimpleNamespace(unwrapped=Worlds())
    assert not policy.lessons(observation, env)[0].any()
