"""Best fit (FGD) and the dot product (Tetris) on two resources."""

import numpy as np
import pytest
from topology_plans import nodes_of, view_with

from gpuyard import baselines
from gpuyard.baselines.topology.best_fit import leftover
from gpuyard.baselines.topology.dot_product import alignment, node_headroom


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
