"""Topology planners: the worked example of each source, and what must hold for all of them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from views import make_cluster, make_view

from gpuyard import baselines
from gpuyard.baselines.room import Room
from gpuyard.baselines.topology.best_fit import leftover
from gpuyard.baselines.topology.dot_product import alignment, node_headroom
from gpuyard.baselines.topology.kubernetes import least_allocated, most_allocated
from gpuyard.baselines.topology.kueue import balance, take
from gpuyard.baselines.topology.rank_aware import crossings, tree_order
from gpuyard.baselines.topology.request import lowest_gpus, make_request
from gpuyard.baselines.topology.slurm_block import block_levels
from gpuyard.baselines.topology.slurm_tree import leafs_in_turn
from gpuyard.baselines.topology.volcano import binpack, tier_score

NODE, LEAF, POD, ZONE = range(4)


def view_with(free, gang, **options):
    """One pending gang on nodes of which only so many GPUs are free."""
    per_node = options.setdefault("gpus_per_node", 8)
    options.setdefault("nodes", len(free))
    running = [
        {"id": 100 + node, "on": node * per_node + np.arange(per_node - left)}
        for node, left in enumerate(free)
        if left < per_node
    ]
    return make_view([{"id": 1, **gang}], running, **options)


def nodes_of(plan, per_node=8):
    return (plan.gpus // per_node).tolist()


def plan_on(name, free, gang, options=None, **cluster):
    planner = baselines.make(name, **(options or {}))
    return planner.plan(view_with(free, gang, **cluster))


# --- pods


def test_pods_of_a_node_take_its_lowest_gpus_in_order_of_the_pods():
    view = view_with([2, 3], {"gpus": 4})
    gpus = lowest_gpus(Room(view), np.array([1, 0, 1, 0]), np.array([1, 1, 1, 1]))
    assert gpus.tolist() == [13, 6, 14, 7]  # free are 6, 7 and 13, 14, 15


def test_the_last_pod_is_the_remainder():
    view = view_with([8, 8, 8], {"gpus": 20})
    request = make_request(Room(view), view.pending[0], 0)
    assert request.sizes.tolist() == [8, 8, 4]
    assert make_request(Room(view), view.pending[0], 0, pod_gpus=3).sizes.tolist() == [3] * 6 + [2]


# --- Kubernetes and Volcano: scores of nodes


def test_kubernetes_scores():
    free = np.array([8, 4, 1])
    # a pod of 1 GPU on 8-GPU nodes with 0, 4 and 7 in use
    assert most_allocated(free, 1, 8).tolist() == [12.5, 62.5, 100.0]
    assert least_allocated(free, 1, 8).tolist() == [87.5, 37.5, 0.0]


def test_volcano_binpack_weighs_resources_and_refuses_overflow():
    # CPU 4 of 8 used, GPU 2 of 8: request 2 CPUs, 1 GPU, weights 1 and 3
    score = binpack([[4, 2], [8, 0]], [2, 1], [[8, 8], [8, 8]], [1, 3])
    assert score.tolist() == [pytest.approx(100 * (6 / 8 + 3 * 3 / 8) / 4), 0.0]


def test_binpack_fills_the_fullest_node_and_spread_the_emptiest():
    free = [8, 3, 2, 1]
    for name in ("topology/kubernetes-binpack", "topology/volcano-binpack", "topology/best-fit"):
        assert nodes_of(plan_on(name, free, {"gpus": 2})) == [2, 2]
    assert nodes_of(plan_on("topology/kubernetes-spread", free, {"gpus": 2})) == [0, 0]


def test_spread_puts_pods_of_one_gpu_on_as_many_nodes():
    options = {"pod_gpus": 1, "ties": "first"}
    plan = plan_on("topology/kubernetes-spread", [4, 4, 2, 1], {"gpus": 5}, options)
    # free 4 4 2 1 -> 3 4 2 1 -> 3 3 2 1 -> 2 3 2 1 -> 2 2 2 1 -> 1 2 2 1
    assert nodes_of(plan) == [0, 1, 0, 1, 0]


def test_ties_are_drawn_from_the_seed():
    view = view_with([8] * 16, {"gpus": 8})
    drawn = []
    for seed in (0, 0, 1):
        planner = baselines.make("topology/kubernetes-binpack")
        planner.reset(None, 1, seed)
        drawn.append([planner.plan(view).gpus[0] for _ in range(8)])
    assert drawn[0] == drawn[1] != drawn[2]


# --- best fit and dot product, on two resources


def test_best_fit_of_fgd_on_cpus_and_gpus():
    # free (CPUs, GPUs) of two nodes, largest node (96, 8), weights 1/2 each, task of 8 CPUs, 1 GPU
    value = leftover([[32, 2], [12, 6]], [8, 1], [96, 8], [0.5, 0.5])
    assert value.tolist() == pytest.approx([0.5 * 24 / 96 + 0.5 / 8, 0.5 * 4 / 96 + 0.5 * 5 / 8])


def test_alignment_of_tetris():
    # a GPU-heavy task aligns with the GPU-rich node
    value = alignment([[1, 8], [8, 1]], [1, 4], [8, 8])
    assert value.tolist() == pytest.approx([1 / 64 + 32 / 64, 8 / 64 + 4 / 64])


def test_dot_product_sends_gangs_of_several_nodes_to_idle_uplinks():
    view = view_with([8] * 8, {"gpus": 16}, nodes_per_leaf=2)
    load = view.link_load.reshape(-1)
    uplinks = view.cluster.fabric.uplinks
    load[16 : 16 + 4 * uplinks] = np.repeat([0.5, 0.75, 0.0, 0.25], uplinks)
    assert node_headroom(view).tolist() == [0.5, 0.5, 0.25, 0.25, 1, 1, 0.75, 0.75]
    assert sorted(set(nodes_of(baselines.make("topology/dot-product").plan(view)))) == [4, 5]
    small = baselines.make("topology/dot-product", prefer="small")
    assert sorted(set(nodes_of(small.plan(view)))) == [2, 3]


# --- Volcano's HyperNodes

TREE = np.array([range(8), [0, 0, 1, 1, 2, 2, 3, 3], [0, 0, 0, 0, 1, 1, 1, 1], [0] * 8])


def test_volcano_tier_score():
    # the gang's nodes lie under leaf 0: tiers of the common ancestor 1, 2, 3 score 100, 50, 0
    assert tier_score(TREE, np.array([1])).tolist() == [100, 100, 50, 50, 0, 0, 0, 0]
    assert tier_score(TREE, np.array([1, 2])).tolist() == [50, 50, 50, 50, 0, 0, 0, 0]
    assert tier_score(TREE, np.array([], int)).tolist() == [0] * 8


def test_volcano_hard_takes_the_fullest_hypernode_of_the_lowest_tier():
    cluster = {"nodes_per_leaf": 2, "leafs_per_pod": 2}
    # pod 0 has 3 free nodes, pod 1 has 4, no leaf holds 3 nodes
    plan = plan_on("topology/volcano-hard", [8, 8, 8, 0, 8, 8, 8, 8], {"gpus": 24}, **cluster)
    assert sorted(set(nodes_of(plan))) == [0, 1, 2]
    # leaf 1 would do for one node, and is the fullest
    plan = plan_on("topology/volcano-hard", [8, 8, 8, 0, 8, 8, 8, 8], {"gpus": 8}, **cluster)
    assert set(nodes_of(plan)) == {2}
    # not where a leaf is required
    gang = {"gpus": 24, "required": LEAF}
    assert plan_on("topology/volcano-hard", [8] * 8, gang, **cluster) is None


def test_volcano_soft_stays_near_its_first_pod():
    # the fullest node is 0; the second pod goes to the other node of its leaf rather than to the
    # fuller node 4 of the other pod: 100 + 100 / 3 for the leaf against 25 for the bin-packing
    plan = plan_on(
        "topology/volcano-soft",
        [2, 8, 8, 8, 3, 8, 8, 8],
        {"gpus": 6},
        {"pod_gpus": 2},
        nodes_per_leaf=2,
        leafs_per_pod=2,
    )
    assert nodes_of(plan) == [0, 0, 1, 1, 1, 1]


# --- KAI


def test_kai_zones_and_racks():
    """Zone A has racks with 2, 1, 1, 1 free GPUs, zone B 2, 2, 2; 3 pods of 1 GPU.

    Required zone, preferred rack: no rack holds 3; zone A is tighter (3/5 > 3/6); in it rack A1
    gets 2 pods, A2 1.
    """
    gang = {"gpus": 3, "required": POD, "preferred": LEAF}
    cluster = {"gpus_per_node": 2, "nodes_per_leaf": 1, "leafs_per_pod": 4}
    free = [2, 1, 1, 1, 2, 2, 2]
    plan = plan_on("topology/kai", free, gang, {"pod_gpus": 1}, **cluster)
    assert nodes_of(plan, 2) == [0, 0, 1]


def test_kai_takes_the_deepest_level_that_holds_the_gang():
    cluster = {"nodes_per_leaf": 2, "leafs_per_pod": 2}
    free = [8, 8, 8, 0, 8, 8, 8, 8]
    # 2 nodes: leafs 0, 2, 3 hold them, all equally tight: the first
    assert set(nodes_of(plan_on("topology/kai", free, {"gpus": 16}, **cluster))) == {0, 1}
    # 3 nodes: no leaf does, pod 0 is the tighter; its emptier leaf comes first
    plan = plan_on("topology/kai", free[::-1], {"gpus": 24}, **cluster)
    assert nodes_of(plan)[::8] == [6, 7, 5]
    # 1 node: the tightest leaf
    assert set(nodes_of(plan_on("topology/kai", free, {"gpus": 8}, **cluster))) == {2}
    # a required leaf is never given up
    gang = {"gpus": 24, "required": LEAF}
    assert plan_on("topology/kai", free, gang, **cluster) is None


# --- Slurm


def test_slurm_tree_finishes_on_the_tightest_leaf():
    one_pod = np.zeros(4, int)
    # 3 nodes: leafs with 4 and 3 hold them, 3 is tighter
    assert leafs_in_turn(3, np.array([2, 4, 3, 1]), one_pod) == [2]
    # 6 nodes: none does: the largest first, then the tightest for the 2 left
    assert leafs_in_turn(6, np.array([2, 4, 3, 1]), one_pod) == [1, 0]
    assert leafs_in_turn(11, np.array([2, 4, 3, 1]), one_pod) is None


def test_slurm_tree_compares_parents_where_no_leaf_holds_the_job():
    # pods with 4 + 3 + 1 and 3 + 3 free nodes: both hold 6, the second is tighter
    room, pod = np.array([4, 3, 1, 3, 3]), np.array([0, 0, 0, 1, 1])
    assert leafs_in_turn(6, room, pod) == [3, 4]
    # 8 nodes: only the first holds them; leafs by room
    assert leafs_in_turn(8, room, pod) == [0, 1, 2]
    # 10: none does: the larger pod first, and its leafs before the far ones
    assert leafs_in_turn(10, room, pod)[:2] == [0, 1]


def test_slurm_tree_waits_for_few_switches():
    gang, cluster = {"gpus": 24}, {"nodes_per_leaf": 2}
    options = {"switches": 1, "switches_wait_s": 60.0}
    free = [8, 8, 8, 8]
    assert plan_on("topology/slurm-tree", free, gang, options, **cluster) is None
    late = plan_on("topology/slurm-tree", free, gang, options, **cluster, now_s=60.0)
    assert nodes_of(late)[::8] == [0, 1, 2]


def test_slurm_block_levels():
    # base blocks of 18 nodes (NVL72 racks), configured 18, 36 and 144
    levels = (0, 1, 3)
    assert block_levels(18, 18, levels) == (0, 0)
    assert block_levels(19, 18, levels) == (1, 0)
    assert block_levels(37, 18, levels) == (3, 1)  # ceil(log2 3) = 2, rounded up
    assert block_levels(145, 18, levels) == (None, 3)
    assert block_levels(19, 18, (0,)) == (None, 0)


def test_slurm_block_keeps_a_job_in_one_base_block_or_waits():
    free = [8, 8, 0, 0, 8, 0, 8, 0]  # base blocks of 4 nodes with 2 free each
    cluster = {"nodes_per_leaf": 4}
    assert nodes_of(plan_on("topology/slurm-block", free, {"gpus": 16}, **cluster))[::8] == [0, 1]
    # 3 nodes could have 2 + 1 in two blocks: the plugin holds them to one
    assert plan_on("topology/slurm-block", free, {"gpus": 24}, **cluster) is None
    # in segments of one node, each goes where it fits
    options = {"segment_nodes": 1}
    plan = plan_on("topology/slurm-block", free, {"gpus": 24}, options, **cluster)
    assert nodes_of(plan)[::8] == [0, 1, 4]


def test_slurm_block_takes_the_fullest_block_and_the_fewest_base_blocks():
    # base blocks of 2 nodes; levels 0 and 1: blocks of two base blocks
    cluster, options = {"nodes_per_leaf": 2}, {"levels": (0, 1)}
    free = [8, 8, 8, 8, 8, 8, 8, 0]  # blocks with 4 and 3 free nodes
    plan = plan_on("topology/slurm-block", free, {"gpus": 24}, options, **cluster)
    assert nodes_of(plan)[::8] == [4, 5, 6]
    # beyond the highest level the whole topology is one block, in as few blocks as may hold it
    plan = plan_on("topology/slurm-block", free, {"gpus": 40}, options, **cluster)
    assert nodes_of(plan)[::8] == [0, 1, 2, 3, 6]


# --- Kueue


def test_kueue_best_fit_takes_large_domains_and_the_smallest_for_the_rest():
    # 7 pods on domains for 4, 3, 2, 1: 4 and then 3, which is the smallest that holds 3
    assert take(np.array([2, 4, 1, 3]), 7).tolist() == [0, 4, 0, 3]
    # 6 pods: 4, then 2
    assert take(np.array([2, 4, 1, 3]), 6).tolist() == [2, 4, 0, 0]
    # one domain holds 2: the smallest that does
    assert take(np.array([2, 4, 1, 3]), 2).tolist() == [2, 0, 0, 0]
    # least free capacity: from the smallest on, or the smallest that holds all
    assert take(np.array([2, 4, 1, 3]), 6, least_free=True).tolist() == [2, 0, 1, 3]
    assert take(np.array([2, 4, 1, 3]), 3, least_free=True).tolist() == [0, 0, 0, 3]
    assert take(np.array([2, 4]), 7) is None


def test_kueue_balances_pods_over_the_fewest_domains():
    # 6 pods on 4, 4, 3: two domains, 3 each; of the pairs 4 + 3 has the least room
    assert balance(np.array([4, 4, 3]), 6).tolist() == [3, 0, 3]
    # 7 pods: threshold 3, the pair 4 + 3 holds it, the extra one goes to the roomier
    assert balance(np.array([4, 4, 3]), 7).tolist() == [4, 0, 3]
    # 10 pods on 6, 3, 2: all three are needed, threshold min(10 // 3, 2)
    assert balance(np.array([6, 3, 2]), 10).tolist() == [6, 2, 2]


def test_kueue_climbs_from_the_preferred_level_and_descends_by_best_fit():
    cluster = {"nodes_per_leaf": 2, "leafs_per_pod": 2}
    free = [8, 0, 8, 8, 8, 8, 8, 8]  # leafs with 1, 2, 2, 2 free nodes; pods with 3 and 4
    gang = {"gpus": 24, "preferred": LEAF}
    assert nodes_of(plan_on("topology/kueue-tas", free, gang, **cluster))[::8] == [0, 2, 3]
    assert nodes_of(plan_on("topology/kueue-tas", free, {**gang, "gpus": 8}, **cluster))[0] == 0
    # 4 nodes: pod 1
    gang["gpus"] = 32
    assert nodes_of(plan_on("topology/kueue-tas", free, gang, **cluster))[::8] == [4, 5, 6, 7]
    # without a preference: the node with the least free capacity that holds it
    assert set(nodes_of(plan_on("topology/kueue-tas", [8, 3, 5, 2], {"gpus": 3}))) == {1}


def test_kueue_balanced_evens_out_over_leafs():
    gang, cluster = {"gpus": 32, "preferred": LEAF}, {"nodes_per_leaf": 3}
    free = [8] * 6
    plain = nodes_of(plan_on("topology/kueue-tas", free, gang, **cluster))[::8]
    even = nodes_of(plan_on("topology/kueue-balanced", free, gang, **cluster))[::8]
    assert plain == [0, 1, 2, 3] and even == [0, 1, 3, 4]


# --- delay scheduling


def test_delay_holds_out_for_a_node_then_a_leaf_then_takes_anything():
    free = [4, 4, 4, 4, 0, 0, 4, 4]
    cluster = {"nodes_per_leaf": 2, "leafs_per_pod": 2}
    options = {"node_s": 10.0, "leaf_s": 20.0, "pod_s": 30.0, "pod_gpus": 4}
    delay = baselines.make("topology/delay", **options)
    pair = {"gpus": 8}  # fits an empty node
    assert delay.plan(view_with(free, pair, **cluster, now_s=9.0)) is None
    assert nodes_of(delay.plan(view_with(free, pair, **cluster, now_s=10.0))) == [0] * 4 + [1] * 4
    four = {"gpus": 16}  # needs two nodes at least: the clock starts with the leaf's time
    assert delay.plan(view_with(free, four, **cluster, now_s=19.0)) is None
    assert nodes_of(delay.plan(view_with(free, four, **cluster, now_s=20.0)))[::4] == [0, 1, 2, 3]


def test_delay_learns_how_long_such_gangs_wait():
    delay = baselines.make("topology/delay", node_s=100.0)
    whole, split = [8, 8], [4, 4]
    for waited_s in (10.0, 20.0):
        delay.plan(view_with(whole, {"gpus": 8}, now_s=waited_s))
    # mean 15 + 2 x 5: after 25 s one leaf will do
    delay.pod_gpus = 4
    assert delay.plan(view_with(split, {"gpus": 8}, now_s=24.9)) is None
    assert delay.plan(view_with(split, {"gpus": 8}, now_s=25.0)) is not None


# --- ranks


def test_ranks_in_tree_order_cross_leafs_as_rarely_as_possible():
    nodes = np.array([6, 0, 2, 7, 1, 3])
    ordered = nodes[tree_order(nodes, TREE)]
    assert ordered.tolist() == [0, 1, 2, 3, 6, 7]
    assert crossings(nodes, TREE[LEAF]) == 6
    assert crossings(ordered, TREE[LEAF]) == 3  # one way in and one out of each of 3 leafs


def test_rank_aware_has_the_nodes_of_binpack():
    view = view_with([8] * 12, {"gpus": 64})
    plans = []
    for name in ("topology/kubernetes-binpack", "topology/rank-aware"):
        planner = baselines.make(name)
        planner.reset(None, 1, 7)
        plans.append(nodes_of(planner.plan(view)))
    assert plans[1] == sorted(plans[0]) != plans[0]


# --- the queue


def test_order_of_the_queue():
    pending = [
        {"id": 0, "gpus": 32, "estimate_s": 50.0},
        {"id": 1, "gpus": 8, "estimate_s": 900.0},
        {"id": 2, "gpus": 16, "estimate_s": 10.0},
    ]
    view = make_view(pending, [{"id": 9, "on": range(8)}], nodes=4)  # 24 GPUs are free
    started = {
        order: baselines.make("topology/kai", order=order).plan(view)
        for order in ("fifo", "strict", "sjf", "smallest")
    }
    assert started["strict"] is None
    assert [started[order].gang for order in ("fifo", "sjf", "smallest")] == [1, 2, 1]


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
        plan = baselines.make(name, order="fifo").plan(view)
        assert plan.gang == 2 and set(nodes_of(plan)) <= {2, 3}, name


@pytest.mark.parametrize("name", baselines.names("topology"))
def test_gangs_stay_under_one_leaf_where_only_circuits_join_leafs(name):
    planner = baselines.make(name)
    cluster = {"nodes": 8, "nodes_per_leaf": 2, "optical": True, "now_s": 1e9}
    pending = [{"id": 1, "gpus": 24}, {"id": 2, "gpus": 16}]
    plan = planner.plan(make_view(pending, [{"id": 9, "on": range(8)}], **cluster))
    assert plan.gang == 2 and set(nodes_of(plan)) in ({2, 3}, {4, 5}, {6, 7})


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


# --- what holds for all


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
    level = min(int(gang["required"]), LEAF if cluster.fabric.optical else ZONE)
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
