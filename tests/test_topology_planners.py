"""What holds for all topology planners: the queue, the limits, legal plans."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from topology_plans import nodes_of
from views import make_cluster, make_view

from gpuyard import baselines


def test_order_of_the_queue():
    pending = [
        {"id": 0, "gpus": 32, "estimate_s": 50.0},
        {"id": 1, "gpus": 8, "estimate_s": 900.0},
        {"id": 2, "gpus": 16, "estimate_s": 10.0},
    ]
    view = make_view(pending, [{"id": 9, "on": range(8)}], nodes=4)  # 24 GPUs are free
    started = {
        order: baselines.make("topology/kai", order=order).plan(view)
        for order in ("fifo", "fifo-first-fit", "sjf", "smallest-first")
    }
    assert started["fifo"] is None
    assert [started[order].gang for order in ("fifo-first-fit", "sjf", "smallest-first")] == [
        1,
        2,
        1,
    ]


def test_quota_blocked_gangs_and_pools_are_respected():
    pools = (("H100-SXM", 2), ("A100-80", 2))
    pending = [
        {"id": 0, "gpus": 8, "blocked": 1},
        {"id": 1, "gpus": 8, "tenant": 1},
        {"id": 2, "gpus": 8},
        {"id": 3, "gpus": 8},
    ]
    speeds = [[1.0, 0.5], [1.0, 0.5], [0.4, 0.9], [1.0, 0.5]]
    view = make_view(pending, quotas=(100, 4), pools=pools, nodes_per_leaf=2, speeds=speeds)
    for name in baselines.names("topology"):
        plan = baselines.make(name, order="fifo-first-fit").plan(view)
        assert plan.gang == 2 and set(nodes_of(plan)) <= {2, 3}, name


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("kai", {"order": "lifo"}, "order = 'lifo'"),
        ("kai", {"pod_gpus": 0}, "pod_gpus = 0"),
        ("kai", {"default": "rack"}, "default = 'rack'"),
        ("kubernetes-spread", {"ties": "last"}, "ties = 'last'"),
        ("volcano-hard", {"mode": "firm"}, "mode = 'firm'"),
        ("volcano-hard", {"topology_weight": -1}, "topology_weight = -1"),
        ("slurm-tree", {"switches": -1}, "switches = -1"),
        ("slurm-tree", {"switches_wait_s": -1.0}, "switches_wait_s = -1.0"),
        ("slurm-block", {"levels": (1, 2)}, "levels = (1, 2)"),
        ("slurm-block", {"segment_nodes": -4}, "segment_nodes = -4"),
        ("fgd", {"popularity": 0.0}, "popularity = 0.0"),
        ("dot-product", {"prefer": "big"}, "prefer = 'big'"),
        ("delay", {"leaf_s": -1.0}, "leaf_s = -1.0"),
        ("delay", {"memory": 0}, "memory = 0"),
    ],
)
def test_bad_options_are_named(name, options, said):
    with pytest.raises(ValueError) as raised:
        baselines.make(f"topology/{name}", **options)
    assert said in str(raised.value)


@st.composite
def worlds(draw):
    """A cluster with occupied GPUs, a failed node perhaps, and a queue."""
    per_node = draw(st.sampled_from([2, 4, 8]))
    counts = draw(st.lists(st.integers(1, 6), min_size=1, max_size=2))
    per_leaf, per_pod = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    # nodes of a leaf, and leafs of a pod, belong to one pool
    counts = [count * per_leaf * per_pod for count in counts]
    types = ("H100-SXM", "A100-80")
    cluster = make_cluster(
        gpus_per_node=per_node,
        nodes_per_leaf=per_leaf,
        leafs_per_pod=per_pod,
        pools=tuple(zip(types, counts, strict=False)),
        optical=draw(st.booleans()) and draw(st.booleans()),
    )
    total = sum(counts) * per_node
    taken = draw(st.sets(st.integers(0, total - 1), max_size=total))
    pending = [
        {
            "id": number,
            "gpus": draw(st.integers(1, 3 * per_node)),
            "required": (required := draw(st.integers(0, 3))),
            "preferred": draw(st.integers(0, required)),
            "estimate_s": draw(st.floats(1, 1e5)),
            "pool": draw(st.integers(-1, len(counts) - 1)),
        }
        for number in range(draw(st.integers(1, 5)))
    ]
    running = [{"id": 1000, "on": sorted(taken)}] if taken else []
    view = make_view(pending, running, cluster=cluster, now_s=draw(st.sampled_from([0.0, 1e6])))
    if draw(st.booleans()):
        view.gpu_job.reshape(sum(counts), -1)[draw(st.integers(0, sum(counts) - 1))] = -2
    return view


@settings(max_examples=40, deadline=None)
@given(view=worlds(), pod_gpus=st.sampled_from([None, 1, 2]))
@pytest.mark.parametrize("name", baselines.names("topology"))
def test_plans_are_legal_and_deterministic(name, view, pod_gpus):
    plan, again = (baselines.make(name, pod_gpus=pod_gpus).plan(view) for _ in range(2))
    if plan is None:
        assert again is None
        return
    assert plan.gang == again.gang and plan.gpus.tolist() == again.gpus.tolist()
    gang = view.pending[plan.gang]
    gpus, cluster = plan.gpus, view.cluster
    assert len(gpus) == len(set(gpus.tolist())) == gang["gpus"]
    assert (view.gpu_job[gpus] == -1).all()
    nodes = gpus // cluster.gpus_per_node
    pools = set(cluster.node_pool[nodes].tolist())
    assert len(pools) == 1 and view.speeds[plan.gang, pools.pop()] > 0
    level = int(gang["required"])
    domain = (nodes, cluster.node_leaf[nodes], cluster.leaf_pod[cluster.node_leaf[nodes]], [0])
    assert len(set(np.asarray(domain[level]).tolist())) == 1


@settings(max_examples=25, deadline=None)
@given(view=worlds())
@pytest.mark.parametrize(
    "name", [n for n in baselines.names("topology") if n not in ("topology/slurm-block",)]
)
def test_on_an_empty_cluster_every_gang_that_can_ever_start_does(name, view):
    view.gpu_job[:] = -1
    if view.cluster.fabric.optical:
        return
    cluster = view.cluster
    _, per_leaf = np.unique(cluster.node_leaf, return_counts=True)
    for row, gang in enumerate(view.pending):
        alone = make_view(
            [{name: gang[name] for name in gang.dtype.names}], cluster=cluster, now_s=1e9
        )
        need = -(-int(gang["gpus"]) // cluster.gpus_per_node)
        room = (
            1,
            per_leaf.max(),
            per_leaf.max() * np.bincount(cluster.leaf_pod).max(),
            max((cluster.node_pool == pool).sum() for pool in np.flatnonzero(view.speeds[row] > 0)),
        )[int(gang["required"])]
        plan = baselines.make(name).plan(alone)
        assert (plan is not None) == (need <= room), (gang, need, room)
