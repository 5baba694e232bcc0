"""Volcano's bin-packing and HyperNodes."""

import numpy as np
import pytest
from topology_plans import LEAF, TREE, nodes_of, plan_on

from gpuyard.baselines.topology.volcano import binpack, tier_score


def test_volcano_binpack_weighs_resources_and_refuses_overflow():
    # CPU 4 of 8 used, GPU 2 of 8: request 2 CPUs, 1 GPU, weights 1 and 3
    score = binpack([[4, 2], [8, 0]], [2, 1], [[8, 8], [8, 8]], [1, 3])
    assert score.tolist() == [pytest.approx(100 * (6 / 8 + 3 * 3 / 8) / 4), 0.0]


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
