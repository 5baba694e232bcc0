"""Pure rules of topology planners: fragmentation (FGD), hierarchical gangs (KAI), Grove's gangs."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from views import make_view

from gpuyard import baselines
from gpuyard.baselines.topology.fgd import Task, by_free, fragmentation, gradient, typical_sizes
from gpuyard.baselines.topology.grove import Clique, ScalingGroup, may_start, pod_gangs
from gpuyard.baselines.topology.hierarchy import (
    Group,
    minimum_pods,
    place_group,
    satisfied,
    segments,
)
from gpuyard.baselines.topology.kueue import least_room_set

# --- FGD: fragmentation


def test_fragmentation_by_hand():
    """A node with GPUs free to 0.3, 1 and 0.6; half the tasks need 0.5 of a GPU, half 1 GPU.

    The first cannot use 0.3; the second 0.3 + 0.6: 0.5 x 0.3 + 0.5 x 0.9 = 0.6. Two whole GPUs fit
    nowhere: all 1.9 is lost to them.
    """
    tasks = [Task(0.5, 0.5), Task(1.0, 0.5)]
    assert fragmentation([0.3, 1.0, 0.6], tasks) == pytest.approx(0.6)
    assert fragmentation([0.3, 1.0, 0.6], [Task(2.0, 1.0)]) == pytest.approx(1.9)
    # a task without GPUs can use none of them
    assert fragmentation([0.3, 1.0, 0.6], [Task(0.0, 1.0)]) == pytest.approx(1.9)


def test_gradient_prefers_the_gpu_that_is_broken_already():
    """0.5 of a GPU on (1, 0.5): a whole one broken makes 0.5 more unusable for 1-GPU tasks.

    Before: those cannot use 0.5; on GPU 0 they lose all 1.0 (no whole GPU is left); on GPU 1 the
    piece disappears. With half the tasks of 1 GPU and half of 0.5: F = 0.25 before, 0.5 and 0.
    """
    tasks = [Task(0.5, 0.5), Task(1.0, 0.5)]
    assert gradient([1.0, 0.5], 0, 0.5, tasks) == pytest.approx(0.25)
    assert gradient([1.0, 0.5], 1, 0.5, tasks) == pytest.approx(-0.25)


# Task mix of the test NodeGpuShareFragAmount... in FGD's simulator, shapes merged where the two
# nodes below do not tell them apart: (GPUs, CPUs, percent of tasks).
MIX = [
    (0, 12.0, 7.36 + 1.65 + 0.53),
    (1, 18.71, 28.69 + 18.93 + 12.27 + 4.85 + 3.79 + 3.31 + 1.97 + 1.87 + 1.81 + 1.76),
    (1, 17.4, 1.39 + 0.64 + 0.59 + 0.53 + 0.37 + 0.32 + 0.32 + 0.27 + 0.27 + 0.27),
    (2, 30.2, 0.91 + 0.69 + 0.32),
    (4, 32.2, 1.01),
    (4, 60.2, 1.23),
    (8, 64.0, 0.53),
    (8, 64.2, 1.07),
    (8, 120.2, 0.48),
]


@pytest.mark.parametrize(
    ("free", "cpus", "published"),
    [([1.0] * 8, 64.0, 0.8872), ([1.0] * 4 + [0.0] * 4, 32.0, 0.5544)],
)
def test_fragmentation_published_with_the_simulator(free, cpus, published):
    tasks = [Task(gpus, percent / 100, cores) for gpus, cores, percent in MIX]
    assert fragmentation(free, tasks, cpus) == pytest.approx(published, abs=1e-5)


def test_typical_set_covers_the_popular_sizes_and_is_renormalised():
    tasks = typical_sizes(np.array([1, 2, 4, 8]), np.array([60, 5, 25, 10]), 0.8)
    assert [(task.gpus, task.popularity) for task in tasks] == [
        (1.0, pytest.approx(60 / 85)),
        (4.0, pytest.approx(25 / 85)),
    ]
    assert len(typical_sizes(np.array([1, 2, 4, 8]), np.array([60, 5, 25, 10]), 1.0)) == 4


def test_fgd_keeps_whole_nodes_for_those_who_need_them():
    """Tasks of 2 and 8 GPUs, half each: F(free) is 0 at 0, f at 1, f / 2 at 2 to 7, 0 at 8.

    A pod of 2 GPUs: on the node with 8 free F rises from 0 to 3, with 4 it falls from 2 to 1, with
    3 it falls from 1.5 to 1 (one GPU that nobody can use).
    """
    table = by_free(8, [Task(2.0, 0.5), Task(8.0, 0.5)])
    assert table.tolist() == [0, 1, 1, 1.5, 2, 2.5, 3, 3.5, 0]
    running = [{"id": 7, "on": range(8, 12)}, {"id": 8, "on": range(16, 21)}]
    pending = [{"id": 1, "gpus": 2}, {"id": 2, "gpus": 8}]
    plan = baselines.make("topology/fgd").plan(make_view(pending, running, nodes=3))
    # the running gangs of 4 and 5 GPUs count too: sizes 2, 4, 5, 8 with 1/4 each. F(8) = 0 ->
    # F(6) = 6/4; F(4) = 4 x 2/4 -> F(2) = 2 x 3/4; F(3) = 3 x 3/4 -> F(1) = 1: the third falls most
    assert (plan.gpus // 8).tolist() == [2, 2]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=4),
    st.lists(st.sampled_from([0.25, 0.5, 1.0, 2.0, 4.0]), min_size=1, max_size=4),
)
def test_fragmentation_lies_between_nothing_and_all_that_is_free(free, sizes):
    tasks = [Task(size, 1 / len(sizes)) for size in sizes]
    assert -1e-9 <= fragmentation(free, tasks) <= sum(free) + 1e-9


# --- KAI: hierarchical gangs

TREE = np.array([range(8), [0, 0, 1, 1, 2, 2, 3, 3], [0, 0, 0, 0, 1, 1, 1, 1], [0] * 8])
LEAF, POD, ZONE = 1, 2, 3


def test_three_of_four_replicas_of_eight_pods():
    replicas = tuple(Group(f"prefill-{index}", pods=8) for index in range(4))
    gang = Group("prefill", children=replicas, min_sub_group=3)
    assert minimum_pods(gang) == 24
    ready = {f"prefill-{index}": 8 for index in range(3)}
    assert satisfied(gang, ready)
    assert not satisfied(gang, {**ready, "prefill-2": 7})
    assert satisfied(gang, {**ready, "prefill-2": 7, "prefill-3": 8})


def test_elastic_gang_needs_its_minimum_only():
    gang = Group("workers", pods=8, min_member=2)
    assert [satisfied(gang, {"workers": count}) for count in (1, 2, 8)] == [False, True, True]
    placed = place_group(gang, np.array([1] * 8), TREE)
    assert len(placed["workers"]) == 2


def test_sub_groups_keep_their_own_level_and_the_gang_keeps_its_own():
    decode = Group("decode", pods=3, required=LEAF)
    prefill = Group("prefill", pods=2, required=LEAF)
    gang = Group("serving", children=(decode, prefill), required=POD)
    # pod 0: leafs with 3 and 1 pods of room; pod 1: 3 and 2
    placed = place_group(gang, np.array([2, 1, 1, 0, 1, 2, 1, 1]), TREE)
    assert set(TREE[LEAF][placed["decode"]]) == {2}
    assert set(TREE[LEAF][placed["prefill"]]) == {3}
    # all or nothing: with 1 in place of 2 nowhere
    assert place_group(gang, np.array([2, 1, 1, 0, 1, 2, 1, 0]), TREE) is None


def test_preferred_level_falls_back_to_the_required_one():
    gang = Group("gang", pods=3, preferred=LEAF, required=POD)
    assert place_group(gang, np.array([1, 1, 1, 0, 0, 1, 1, 0]), TREE)["gang"].tolist() == [0, 1, 2]
    narrow = place_group(gang, np.array([1, 1, 1, 0, 0, 1, 2, 1]), TREE)["gang"]
    assert sorted(narrow.tolist()) == [6, 6, 7]
    assert place_group(gang, np.array([1, 1, 0, 0, 0, 1, 1, 0]), TREE) is None


def test_segments():
    # 10 pods in segments of 4, 8 of them needed: two segments whole, the last elastic
    assert segments(10, 4, 8) == [(4, 4), (4, 4), (2, 0)]
    assert segments(8, 4, 8) == [(4, 4), (4, 4)]
    assert segments(8, 4, 6) == [(4, 4), (4, 0)]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "must have pods or children"),
        ({"pods": 2, "children": (Group("b", pods=1),)}, "must have pods or children"),
        ({"pods": 2, "min_member": 3}, "needs 3 of 2"),
        ({"pods": 2, "min_sub_group": 1}, "exclude each other"),
        ({"children": (Group("b", pods=1),), "min_sub_group": 2}, "needs 2 of 1"),
    ],
)
def test_impossible_groups_are_named(options, said):
    with pytest.raises(ValueError, match=f"'a'.*{said}"):
        Group("a", **options)


# --- Grove


def leader_and_workers(name, workers, replicas, least=1):
    cliques = (Clique("leader", 1), Clique("worker", workers))
    return ScalingGroup(name, cliques, replicas, least)


def test_aggregated_instances_start_as_eight_pods_or_not_at_all():
    """(leader 1 + worker 3) x 2 with both replicas needed: 8 pods, all or nothing."""
    (gang,) = pod_gangs(scaling_groups=(leader_and_workers("model", 3, 2, least=2),))
    assert minimum_pods(gang) == 8
    assert place_group(gang, np.array([1] * 7 + [0]), TREE) is None
    placed = place_group(gang, np.array([1] * 8), TREE)
    assert sorted(np.concatenate(list(placed.values())).tolist()) == list(range(8))


def test_disaggregated_serving_has_a_base_gang_and_a_scaled_one():
    """Prefill (1 + 4) x 2, decode (1 + 2) x 1: base 5 + 3 pods, one more prefill of 5 behind it."""
    gangs = pod_gangs(
        scaling_groups=(leader_and_workers("prefill", 4, 2), leader_and_workers("decode", 2, 1))
    )
    assert [gang.name for gang in gangs] == ["base", "prefill-1"]
    assert [minimum_pods(gang) for gang in gangs] == [8, 5]
    base = {"prefill-0-leader": 1, "prefill-0-worker": 4, "decode-0-leader": 1}
    assert may_start(gangs, 0, {})
    assert not may_start(gangs, 1, {**base, "decode-0-worker": 1})
    assert may_start(gangs, 1, {**base, "decode-0-worker": 2})


def test_standalone_cliques_join_the_base_gang_with_their_minimum():
    gangs = pod_gangs((Clique("router", 3, min_available=1),), (leader_and_workers("model", 3, 3),))
    assert [minimum_pods(gang) for gang in gangs] == [1 + 4, 4, 4]


def test_scaled_gangs_have_the_scaling_groups_constraint_only():
    group = ScalingGroup("model", (Clique("pods", 2),), replicas=2, required=LEAF)
    base, scaled = pod_gangs(scaling_groups=(group,), required=POD)
    assert (base.required, base.children[0].required, scaled.required) == (POD, LEAF, LEAF)


# --- Kueue: the set of domains with the least room, against all sets


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=7), st.data())
def test_least_room_set_is_the_best_of_all(room, data):
    room = np.array(room)
    pods = data.draw(st.integers(1, int(room.sum())))
    held = np.sort(room)[::-1].cumsum()
    count = int(np.searchsorted(held, pods)) + 1
    chosen = least_room_set(room, count, pods)
    sets = itertools.combinations(range(len(room)), count)
    best = min(total for members in sets if (total := room[list(members)].sum()) >= pods)
    assert len(set(chosen.tolist())) == count and room[chosen].sum() == best
