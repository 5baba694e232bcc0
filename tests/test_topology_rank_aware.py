"""Ranks in the order of the tree."""

import numpy as np
from topology_plans import LEAF, TREE, nodes_of, view_with
from views import PLACING

from gpuyard import baselines
from gpuyard.baselines.topology.rank_aware import crossings, tree_order


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
        planner.reset(PLACING, 1, 7)
        plans.append(nodes_of(planner.plan(view)))
    assert plans[1] == sorted(plans[0]) != plans[0]
