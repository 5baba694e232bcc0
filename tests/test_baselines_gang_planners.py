"""Gang planners against schedules worked out by hand, and their invariants."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mini_world import Gang, check, simulate
from views import gangs, make_cluster, make_view

from gpuyard import baselines
from gpuyard.baselines.gang.easy import EasyBackfill, Shadow
from gpuyard.baselines.gang.fitted import FUNCTIONS
from gpuyard.baselines.gang.shares import max_min_shares
from gpuyard.baselines.gang.themis import finish_time_fairness
from gpuyard.baselines.gang.volcano import allocate, binpack
from gpuyard.baselines.planner import Planner
from gpuyard.baselines.room import Room

PLANNERS = [name for name in baselines.names("gang") if isinstance(baselines.make(name), Planner)]


def planner(name: str, **options) -> Planner:
    policy = baselines.make(f"gang/{name}", **options)
    policy.reset(None, 1, 0)
    return policy


def counted(gpus: int):
    """A cluster on which only the number of GPUs matters: one to a node."""
    return make_cluster(nodes=gpus, gpus_per_node=1, nodes_per_leaf=gpus)


def starts(jobs: list[Gang]) -> list[float]:
    return [job.runs[0][0] for job in jobs]


# --- EASY ------------------------------------------------------------------------------------

# 8 GPUs: A holds 4 until 100 s, B holds 2 until 200 s, 2 are free.
A_AND_B = [{"id": 0, "on": range(4), "end_s": 100.0}, {"id": 1, "on": [4, 5], "end_s": 200.0}]


def easy(head: int, *others: tuple[int, float]) -> int | None:
    """Return which of the others starts while the head of ``head`` GPUs waits."""
    pending = [{"id": 10, "gpus": head, "estimate_s": 50.0}]
    pending += [
        {"id": 11 + k, "gpus": gpus, "estimate_s": run} for k, (gpus, run) in enumerate(others)
    ]
    view = make_view(pending, A_AND_B, cluster=counted(8))
    plan = planner("easy-backfill").plan(view)
    if plan is None:
        return None
    check(view, plan)
    return plan.gang - 11


def test_easy_lets_pass_what_ends_by_the_shadow_time():
    """A head of 6 fits when A ends (2 + 4 GPUs, none extra): the shadow time is 100 s."""
    assert easy(6, (2, 100.0)) == 0
    assert easy(6, (2, 101.0)) is None
    assert easy(6, (2, 101.0), (1, 150.0), (1, 90.0)) == 2


def test_easy_lets_pass_what_needs_the_extra_gpus_only():
    """A head of 5 leaves one extra GPU at 100 s, whatever node it stands on."""
    assert easy(5, (2, 500.0), (1, 500.0)) == 1
    # the extra GPU is gone once a long gang runs on it
    view = make_view(
        [{"id": 10, "gpus": 5}, {"id": 12, "gpus": 1, "estimate_s": 500.0}],
        [*A_AND_B, {"id": 11, "on": [6], "end_s": 500.0}],
        cluster=counted(8),
    )
    assert planner("easy-backfill").plan(view) is None


def test_easy_counts_all_that_end_at_the_shadow_time():
    """At 100 s three gangs of 2 end and a head of 4 leaves 4 of 8 GPUs: a long gang of 2 passes."""
    running = [{"id": k, "on": [2 * k, 2 * k + 1], "end_s": 100.0} for k in range(3)]
    pending = [{"id": 10, "gpus": 4}, {"id": 11, "gpus": 2, "estimate_s": 500.0}]
    view = make_view(pending, running, cluster=counted(8))
    assert planner("easy-backfill").plan(view).gang == 11


def test_easy_starts_the_head_first():
    assert (
        planner("easy-backfill")
        .plan(make_view([{"id": 5, "gpus": 2}, {"id": 6, "gpus": 1}], A_AND_B, cluster=counted(8)))
        .gang
        == 5
    )


def test_easy_asks_the_placement_for_the_shadow_time_not_a_count_of_gpus():
    """8 GPUs are free at 100 s, but no node is whole until 200 s."""
    running = [
        {"id": 0, "on": range(4), "end_s": 300.0},
        {"id": 1, "on": range(8, 12), "end_s": 100.0},
        {"id": 2, "on": range(12, 16), "end_s": 200.0},
    ]
    head = {"id": 3, "gpus": 8, "required": 0}
    until_150 = {"id": 4, "gpus": 4, "estimate_s": 150.0}
    until_900 = {"id": 5, "gpus": 4, "estimate_s": 900.0}
    for other in (until_150, until_900):  # the long one stays on node 0, beside the head's node 1
        view = make_view([head, other], running, nodes=2)
        assert planner("easy-backfill").plan(view).gang == other["id"]
    # where node 0 is the one that becomes whole first, the long one would delay the head
    running[0]["end_s"] = 50.0
    assert planner("easy-backfill").plan(make_view([head, until_900], running, nodes=2)) is None


def test_easy_delays_the_second_in_the_queue_and_conservative_does_not():
    """4 GPUs, R holds 2 until 10 s; H wants 3 for 10 s, J 4 for 10 s, K 1 for 25 s.

    H can start at 10 and J at 20. EASY lets K use the GPU that H leaves over, until 25, and J must
    wait for it. Conservative backfill keeps J's reservation: K fits after J only, at 30.
    """

    def jobs():
        return [Gang(0, 2, 10), Gang(0, 3, 10), Gang(0, 4, 10), Gang(0, 1, 25)]

    easy_jobs = simulate(planner("easy-backfill"), jobs(), counted(4))
    assert starts(easy_jobs) == [0, 10, 25, 0]
    conservative = simulate(planner("conservative-backfill"), jobs(), counted(4))
    assert starts(conservative) == [0, 10, 20, 30]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_with_exact_estimates_every_head_starts_by_its_shadow_time(seed):
    rng = np.random.default_rng(seed)
    jobs = [
        (int(rng.integers(1, 13)), float(rng.integers(1, 200)), int(rng.integers(1, 4)))
        for _ in range(20)
    ]
    jobs = [(gpus if required > 1 else min(gpus, 8), run, required) for gpus, run, required in jobs]
    promises: dict[int, float] = {}

    class Recorded(EasyBackfill):
        def plan(self, view):
            plan = super().plan(view)
            head = view.pending[0]
            if plan is None or plan.gang != head["id"]:
                shadow = Shadow(view, Room(view), 0)
                promises[int(head["id"])] = min(
                    shadow.time_s, promises.get(int(head["id"]), np.inf)
                )
            return plan

    done = simulate(
        Recorded(),
        [Gang(0, gpus, run, required=required) for gpus, run, required in jobs],
        nodes=4,
        gpus_per_node=4,
    )
    assert promises
    for head, shadow_s in promises.items():
        assert done[head].runs[0][0] <= shadow_s + 1e-3


def test_conservative_moves_everybody_forward_when_a_gang_ends_early():
    """R believed to hold 4 GPUs until 100 ends at 40: H starts then, not at 100."""
    jobs = [Gang(0, 4, 40, estimate_s=100), Gang(0, 4, 10), Gang(5, 1, 10)]
    done = simulate(planner("conservative-backfill"), jobs, counted(4))
    assert starts(done) == [0, 40, 50]


def test_conservative_plans_as_deep_as_told():
    jobs = [{"id": 1, "gpus": 3}, {"id": 2, "gpus": 2, "estimate_s": 10.0}]
    view = make_view(jobs, [{"id": 0, "on": [0, 1]}], cluster=counted(4))
    assert planner("conservative-backfill").plan(view).gang == 2
    assert planner("conservative-backfill", depth=1).plan(view) is None
    with pytest.raises(ValueError, match="depth = 0"):
        planner("conservative-backfill", depth=0)


# --- preemptive orders -----------------------------------------------------------------------


def test_srtf_stops_the_longer_gang():
    """A (100 s) from 0, B (20 s) at 10: B runs 10-30, A 0-10 and 30-120."""
    a, b = simulate(planner("srtf"), [Gang(0, 1, 100), Gang(10, 1, 20)], counted(1), True)
    assert b.runs == [[10, 30]]
    assert a.runs == [[0, 10], [30, 120]]


def test_srsf_weighs_the_gpus_and_srtf_does_not():
    """At 10 s A has 2 GPUs x 90 s = 180 left; B wants 8 x 30 = 240, C wants 8 x 20 = 160."""
    for name, run_s, start_s in (("srtf", 30, 10), ("srsf", 30, 100), ("srsf", 20, 10)):
        jobs = simulate(planner(name), [Gang(0, 2, 100), Gang(10, 8, run_s)], None, True, nodes=1)
        assert jobs[1].runs[0][0] == start_s


@pytest.mark.parametrize("name", ["srtf", "srsf", "tiresias", "themis", "gavel"])
def test_preemptive_planners_keep_the_order_where_preemption_is_forbidden(name):
    """Everybody runs once, without a break."""
    jobs = [Gang(0, 8, 9000), Gang(10, 4, 20), Gang(20, 4, 30), Gang(30, 8, 10)]
    for job in simulate(planner(name), jobs, None, False, nodes=1):
        assert len(job.runs) == 1


def test_only_gangs_whose_gpus_are_taken_are_stopped():
    """Of two long gangs the longest gives way; it alone is enough."""
    running = [
        {"id": 0, "on": range(4), "estimate_s": 500.0},
        {"id": 1, "on": range(4, 8), "estimate_s": 900.0},
    ]
    pending = [{"id": 2, "gpus": 4, "estimate_s": 10.0}]
    plan = planner("srtf").plan(make_view(pending, running, nodes=1, preemption=True))
    assert plan.preempt == (1,) and plan.gpus.tolist() == [4, 5, 6, 7]
    running[1]["blocked"] = 1  # it started at this very moment
    plan = planner("srtf").plan(make_view(pending, running, nodes=1, preemption=True))
    assert plan.preempt == (0,)


# --- Tiresias --------------------------------------------------------------------------------


def test_tiresias_demotes_by_gpu_time_and_upper_queues_stop_lower_ones():
    """2 GPUs, one threshold at 100 GPU s.

    At 40 A has attained 80 GPU s and is in the top queue like B: B waits. At 60 C arrives, A has
    attained 120 and sinks: B, the older of the two in the top queue, stops it and runs 60-90, C
    90-100, and A its last 140 s from 100 on.
    """
    jobs = [Gang(0, 2, 200), Gang(40, 2, 30), Gang(60, 2, 10)]
    a, b, c = simulate(planner("tiresias", thresholds_gpu_s=[100]), jobs, counted(2), True)
    assert (b.runs, c.runs) == ([[60, 90]], [[90, 100]])
    assert a.runs == [[0, 60], [100, 240]]


def test_tiresias_queues_lie_between_thresholds():
    policy = planner("tiresias")
    service = [0, 3249, 3250, 7199, 7200, 90_000]
    table = gangs(*({"id": k, "gpus": 2, "executed_s": s / 2} for k, s in enumerate(service)))
    assert policy.queues(table, {}).tolist() == [0, 0, 1, 1, 2, 2]


def test_tiresias_promotes_a_gang_that_starves():
    """It has run 60 s (120 GPU s) and returns to the top after 2 x 60 s of waiting."""

    def plan(now_s: float, policy):
        view = make_view(
            [{"id": 1, "gpus": 2, "executed_s": 60.0}],
            [{"id": 0, "on": [0, 1], "executed_s": 90.0}],
            cluster=counted(2),
            now_s=now_s,
            preemption=True,
        )
        return policy.plan_for(0, view)

    policy = planner("tiresias", thresholds_gpu_s=[100], starvation=2.0)
    assert plan(60 + 119.0, policy) is None  # both in the lower queue
    assert plan(60 + 120.0, policy).preempt == (0,)
    assert policy.memories[0] == {1: (60.0, 120.0)}
    policy.restart(np.array([True]))
    assert policy.memories[0] == {}
    assert plan(1e6, planner("tiresias", thresholds_gpu_s=[100], starvation=0)) is None


def test_tiresias_refuses_thresholds_that_do_not_grow():
    with pytest.raises(ValueError, match="must grow"):
        planner("tiresias", thresholds_gpu_s=[100, 100])


# --- Themis ----------------------------------------------------------------------------------


def test_themis_orders_by_finish_time_fairness():
    """8 GPUs, 3 gangs contend, 50 s have passed.

    a (8 GPUs, 100 s) alone takes 100 x 8 x 3 / 8 = 300 s and now ends at 150: 0.5. b (2 GPUs,
    100 s) fits its share and ends at 150: 1.5. c runs since 0 with half its speed lost: it ends at
    50 + 50 x 2 = 150 and alone would take 100 x 4 x 3 / 8 = 150: 1.
    """
    view = make_view(
        [{"id": 0, "gpus": 8}, {"id": 1, "gpus": 2}],
        [{"id": 2, "on": range(4), "executed_s": 50.0, "slowdown": 2.0}],
        nodes=1,
        now_s=50.0,
    )
    waiting, running = finish_time_fairness(view)
    np.testing.assert_allclose(waiting, [0.5, 1.5])
    np.testing.assert_allclose(running, [1.0])
    assert planner("themis").plan(view).gang == 1


def test_themis_stops_a_better_off_gang_when_its_lease_ends():
    def plan(now_s, **options):
        view = make_view(
            [{"id": 1, "gpus": 4, "arrival_s": 0.0}],
            [{"id": 0, "on": range(8), "executed_s": now_s, "estimate_s": 9000.0}],
            nodes=1,
            now_s=now_s,
            preemption=True,
        )
        return planner("themis", **options).plan(view)

    assert plan(1199.0) is None
    assert plan(1200.0).preempt == (0,)
    assert plan(600.0, lease_s=600.0).preempt == (0,)


def test_themis_lets_only_the_worst_off_stop_others():
    """Five gangs, f = 0.8: one bidder, the running gang that is worst off itself."""
    view = make_view(
        [{"id": k, "gpus": 4, "arrival_s": 1900.0} for k in (1, 2, 3)],
        [
            {"id": 0, "on": range(4), "estimate_s": 10.0, "executed_s": 2000.0},
            {"id": 4, "on": range(4, 8), "estimate_s": 9000.0, "executed_s": 2000.0},
        ],
        nodes=1,
        now_s=2000.0,
        preemption=True,
    )
    waiting, running = finish_time_fairness(view)
    assert running[0] > waiting.max() and running[1] < waiting.min()
    assert planner("themis").plan(view) is None
    assert planner("themis", fairness=0.0).plan(view).preempt == (4,)
    with pytest.raises(ValueError, match="fairness"):
        planner("themis", fairness=1.5)


# --- Gavel -----------------------------------------------------------------------------------


def test_gavel_shares_of_two_jobs_on_two_types():
    """One fast and two slow GPUs; jobs keep 1/4 and 1/2 of their speed on a slow one.

    Equal shares are (1/3, 2/3), hence 1/2 and 2/3. With a of the fast GPU for job 0 the gains
    (1/4 + 3a/4) / (1/2) and (1 - a/2) / (2/3) meet at a = 4/9, both 7/6.
    """
    throughput, one = np.array([[1, 0.25], [1, 0.5]]), np.ones(2)
    shares = max_min_shares(throughput, one, np.array([1.0, 2.0]))
    np.testing.assert_allclose(shares, [[4 / 9, 5 / 9], [5 / 9, 4 / 9]], atol=1e-6)
    gains = (throughput * shares).sum(axis=1) / [1 / 2, 2 / 3]
    np.testing.assert_allclose(gains, 7 / 6, atol=1e-6)


def test_gavel_leaves_slow_gpus_to_jobs_that_do_not_mind():
    shares = max_min_shares(np.array([[1, 0.1], [1, 1]]), np.ones(2), np.ones(2))
    np.testing.assert_allclose(shares, np.eye(2), atol=1e-6)


def test_gavel_counts_gains_per_gpu():
    """Gangs of 4 and of 1 on 4 GPUs: gains 4 x and y, with 4 x + y <= 4 and y <= 1.

    The least gain is y = 1 at most; then x = 3/4.
    """
    shares = max_min_shares(np.ones((2, 1)), np.array([4.0, 1.0]), np.array([4.0]))
    np.testing.assert_allclose(shares, [[0.75], [1.0]], atol=1e-6)


def test_gavel_ignores_jobs_whose_gpus_all_failed():
    shares = max_min_shares(np.array([[0.0, 1.0], [1.0, 0.5]]), np.ones(2), np.array([1.0, 0.0]))
    np.testing.assert_allclose(shares[1], [1.0, 0.0], atol=1e-6)
    assert not max_min_shares(np.array([[0.0, 1.0]]), np.ones(1), np.array([1.0, 0.0])).any()
    assert max_min_shares(np.zeros((0, 2)), np.zeros(0), np.zeros(2)).shape == (0, 2)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_gavel_shares_are_feasible_and_no_worse_than_equal_ones(seed):
    rng = np.random.default_rng(seed)
    jobs, types = rng.integers(1, 6), rng.integers(1, 4)
    throughput = rng.uniform(0.05, 1, (jobs, types))
    gpus = rng.integers(1, 9, jobs).astype(float)
    capacity = rng.integers(1, 17, types).astype(float)
    shares = max_min_shares(throughput, gpus, capacity)
    assert (shares >= -1e-9).all() and (shares.sum(axis=1) <= 1 + 1e-7).all()
    assert (gpus @ shares <= capacity + 1e-6).all()
    # an equal split is feasible too: every job the same part of all types
    equal = capacity / capacity.sum()
    part = min(1.0, capacity.sum() / gpus.sum())
    gain = gpus * (throughput * shares).sum(axis=1) / (throughput @ equal)
    assert gain.min() >= (gpus * part).min() * (1 - 1e-4)


def test_gavel_rotates_equal_gangs_round_by_round():
    """Two gangs on one GPU have equal shares.

    At 360 only A has received time: B takes over. At 720 both have the same, and nobody is stopped
    for a tie. At 1080 B has more, and has ended.
    """
    ticks = np.arange(0, 2000, 360.0)
    jobs = [Gang(0, 1, 720), Gang(0, 1, 720)]
    a, b = simulate(planner("gavel"), jobs, counted(1), True, ticks)
    assert a.runs == [[0, 360], [1080, 1440]]
    assert b.runs == [[360, 1080]]


def test_gavel_stops_nobody_inside_a_round():
    jobs = [Gang(0, 1, 300), Gang(10, 1, 20)]
    a, b = simulate(planner("gavel"), jobs, counted(1), True)
    assert (a.runs, b.runs) == ([[0, 300]], [[300, 320]])


def test_gavel_places_by_shares_not_by_age():
    """The gang that keeps a tenth of its speed on the slow pool gets the fast one."""
    cluster = make_cluster(pools=(("H100-SXM", 1), ("A100-80", 1)), nodes_per_leaf=1)
    pending = [{"id": 0, "gpus": 8}, {"id": 1, "gpus": 8}]
    view = make_view(pending, cluster=cluster, speeds=[[1.0, 1.0], [1.0, 0.1]])
    policy = planner("gavel")
    first = policy.plan_for(0, view)
    placed = {first.gang: first.gpus[0] // 8}
    assert placed in ({0: 1}, {1: 0})
    agnostic = planner("gavel", heterogeneous=False)
    assert agnostic.plan_for(0, view) is not None


# --- Volcano ---------------------------------------------------------------------------------


def test_volcano_binpack_score():
    """(used + request) / allocatable x 100: 2 GPUs on nodes with 8, 5, 2 and 1 free."""
    np.testing.assert_allclose(binpack(np.array([8, 5, 2, 1]), 2, 8), [25, 62.5, 100, -1])


def test_volcano_discards_a_statement_that_cannot_be_completed():
    view = make_view(running=[{"id": 0, "on": [8]}], nodes=2)
    room, gang = Room(view), gangs({"id": 1, "gpus": 16})[0]
    assert allocate(room, gang, 0) is None
    assert room.node_free.tolist() == [8, 7]  # the first task's node was given back
    fits = gangs({"id": 1, "gpus": 15})[0]
    assert allocate(room, fits, 0).tolist() == [*range(8), *range(9, 16)]


def test_volcano_orders_by_priority_then_age_and_passes_by_what_does_not_fit():
    pending = [
        {"id": 0, "gpus": 2, "arrival_s": 0.0, "priority": 0.5},
        {"id": 1, "gpus": 16, "arrival_s": 1.0, "priority": 1.0},
        {"id": 2, "gpus": 2, "arrival_s": 2.0, "priority": 1.0},
    ]
    assert planner("volcano").plan(make_view(pending, nodes=2)).gang == 1
    busy = [{"id": 9, "on": [0]}]
    assert planner("volcano").plan(make_view(pending, busy, nodes=2)).gang == 2


# --- fitted orders -----------------------------------------------------------------------------


def test_fitted_functions_by_hand():
    """r = 100 s, n = 4, s = 1000 s: log10 r = 2, sqrt r = 10, log10 s = 3."""
    values = {name: float(f(100.0, 4.0, 1000.0)) for name, f in FUNCTIONS.items()}
    assert values == {
        "f1": pytest.approx(2 * 4 + 2610),
        "f2": pytest.approx(10 * 4 + 76_800),
        "f3": pytest.approx(400 + 20.58e6),
        "f4": pytest.approx(200 + 1.59e6),
    }


def test_fitted_orders_start_the_lowest_value():
    """Early arrivals weigh most: the older gang starts although it is bigger and longer."""
    pending = [
        {"id": 0, "gpus": 8, "estimate_s": 900.0, "arrival_s": 10.0},
        {"id": 1, "gpus": 1, "estimate_s": 100.0, "arrival_s": 1000.0},
    ]
    for name in FUNCTIONS:
        assert planner(name).plan(make_view(pending, nodes=1, now_s=1000.0)).gang == 0
    # of the same age the smaller one
    pending[1]["arrival_s"] = 10.0
    assert planner("f1").plan(make_view(pending, nodes=1, now_s=1000.0)).gang == 1
    with pytest.raises(ValueError, match="use one of f1, f2, f3, f4"):
        planner("f1", function="f5")


# --- all ---------------------------------------------------------------------------------------


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
    policy.reset(None, 1, 0)
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


def test_a_planner_says_that_it_must_be_connected():
    with pytest.raises(RuntimeError, match="connect"):
        planner("srtf").act({"action_mask": np.ones((1, 3))})


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

    worlds, policy = Worlds(), planner("easy-backfill")
    policy.connect(worlds)
    assert worlds.asked
    mask = np.array([[1, 1, 1, 0], [1, 1, 1, 0], [0, 1, 0, 0]])
    assert policy.act({"action_mask": mask}).tolist() == [3, 2, 1]
    assert worlds.asked and list(worlds.plans) == [0] and worlds.plans[0].gang == 7
