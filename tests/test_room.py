"""The two plain placements, by hand and by property."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from views import gangs, make_cluster, make_view

from gpuyard.baselines.room import Room, first_fit, gang_gpus, pack, place


def gang(gpus: int, required: int = 3):
    return gangs({"id": 9, "gpus": gpus, "required": required})[0]


def test_first_fit_takes_the_first_node_and_pack_the_fullest_one_that_holds_the_gang():
    # node 0 empty, node 1 has 5 free, node 2 has 2 free
    busy = [*range(8, 11), *range(16, 22)]
    view = make_view(running=[{"id": 0, "on": busy}], nodes=3)
    room = Room(view)
    assert room.node_free.tolist() == [8, 5, 2]
    assert first_fit(room, gang(4), 0).tolist() == [0, 1, 2, 3]
    assert pack(room, gang(4), 0).tolist() == [11, 12, 13, 14]
    assert pack(room, gang(2), 0).tolist() == [22, 23]


def test_a_gang_takes_whole_nodes_and_leaves_the_remainder_on_the_fullest_other_one():
    view = make_view(running=[{"id": 0, "on": [0, *range(16, 20)]}], nodes=4)
    room = Room(view)  # free: 7, 8, 4, 8
    assert first_fit(room, gang(20), 0).tolist() == [*range(8, 16), *range(24, 32), 1, 2, 3, 4]
    assert pack(room, gang(20), 0).tolist() == [*range(8, 16), *range(24, 32), 20, 21, 22, 23]
    assert pack(room, gang(24), 0) is None  # 27 GPUs are free, but only two whole nodes


@pytest.mark.parametrize("fit", [first_fit, pack])
def test_required_level_bounds_the_domain(fit):
    # two leafs of two nodes; the first leaf has one whole node and 1 GPU left
    room = Room(make_view(running=[{"id": 0, "on": range(8, 15)}], nodes=4))
    assert fit(room, gang(9, required=0), 0) is None
    assert fit(room, gang(10, required=1), 0).tolist() == [*range(16, 24), 24, 25]
    assert fit(room, gang(17, required=1), 0) is None
    assert fit(room, gang(24, required=2), 0).tolist() == [*range(0, 8), *range(16, 32)]


def test_pack_prefers_the_fullest_domain():
    room = Room(make_view(running=[{"id": 0, "on": range(16, 22)}], nodes=4))
    assert first_fit(room, gang(8, required=1), 0).tolist() == list(range(8))
    assert pack(room, gang(8, required=1), 0).tolist() == list(range(24, 32))


def test_place_goes_to_the_fastest_pool_with_room():
    cluster = make_cluster(pools=(("A100-80", 1), ("H100-SXM", 1)), nodes_per_leaf=1)
    view = make_view([{"id": 9, "gpus": 6}], [{"id": 0, "on": [8, 9, 10, 11]}], cluster=cluster)
    room = Room(view)
    assert place(room, view.pending[0], np.array([0.5, 1.0])).tolist() == [0, 1, 2, 3, 4, 5]
    assert place(room, view.pending[0], np.array([0.0, 1.0])) is None
    room.release(gang_gpus(view, 0))
    assert place(room, view.pending[0], np.array([0.5, 1.0])).tolist() == [8, 9, 10, 11, 12, 13]


@settings(max_examples=100, deadline=None)
@given(
    busy=st.sets(st.integers(0, 47)),
    size=st.integers(1, 40),
    required=st.integers(0, 3),
    fit=st.sampled_from([first_fit, pack]),
)
def test_placements_are_free_complete_and_in_one_domain(busy, size, required, fit):
    cluster = make_cluster(nodes=12, gpus_per_node=4, nodes_per_leaf=3, leafs_per_pod=2)
    view = make_view(running=[{"id": 0, "on": sorted(busy)}] if busy else [], cluster=cluster)
    room = Room(view)
    per_node = min(4, size)
    counts = [per_node] * (size // per_node) + [size % per_node] * (size % per_node > 0)
    found = fit(room, gang(size, required), 0)
    nodes = np.arange(12)
    domain = [nodes, nodes // 3, nodes // 6, nodes * 0][required]
    free = np.array([4 - len(busy & set(range(4 * n, 4 * n + 4))) for n in nodes])
    # a slow check of feasibility: fill the domain greedily, wholes first
    feasible = any(
        all(
            left >= need
            for left, need in zip(
                sorted(free[domain == d], reverse=True), [*counts, *[0] * 12], strict=False
            )
        )
        and (domain == d).sum() >= len(counts)
        for d in set(domain)
    )
    assert (found is not None) == feasible
    if found is not None:
        assert len(set(found.tolist())) == size and not busy & set(found.tolist())
        assert len(set(domain[found // 4])) == 1
        order = [int((found // 4 == n).sum()) for n in dict.fromkeys((found // 4).tolist())]
        assert order == counts
        before = room.node_free.copy()
        room.take(found)
        assert room.node_free.sum() == before.sum() - size
        room.release(found)
        assert (room.node_free == before).all()


def test_a_gang_on_several_leafs_needs_an_uplink_of_each_that_nobody_reserved():
    view = make_view([{"id": 9, "gpus": 24}], nodes=4)  # two leafs of two nodes
    switches = view.cluster.fabric.gpu_switch[:16]
    reserved = view.uplink_job.copy()
    reserved[switches, 1:] = 5
    room = Room(dataclasses.replace(view, uplink_job=reserved))
    assert place(room, view.pending[0], np.ones(1)) is not None  # one is open
    reserved[switches, 0] = 5
    view = dataclasses.replace(view, uplink_job=reserved)
    assert place(Room(view), view.pending[0], np.ones(1)) is None
    room = Room(view)
    room.uplinks.vacate(view, 5)
    assert place(room, view.pending[0], np.ones(1)) is not None
