"""Kubernetes' scores of nodes, bin-packing and spreading."""

import numpy as np
from topology_plans import nodes_of, plan_on, view_with
from views import PLACING

from gpuyard import baselines
from gpuyard.baselines.topology.kubernetes import least_allocated, most_allocated


def test_kubernetes_scores():
    free = np.array([8, 4, 1])
    # a pod of 1 GPU on 8-GPU nodes with 0, 4 and 7 in use
    assert most_allocated(free, 1, 8).tolist() == [12.5, 62.5, 100.0]
    assert least_allocated(free, 1, 8).tolist() == [87.5, 37.5, 0.0]


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
        planner.reset(PLACING, 1, seed)
        drawn.append([planner.plan(view).gpus[0] for _ in range(8)])
    assert drawn[0] == drawn[1] != drawn[2]
