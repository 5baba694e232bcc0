"""Slurm's topology plugins: tree and block."""

import numpy as np
from topology_plans import nodes_of, plan_on

from gpuyard.baselines.topology.slurm_block import block_levels
from gpuyard.baselines.topology.slurm_tree import leafs_in_turn


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
