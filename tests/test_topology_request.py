"""A gang as a request of pods, and the GPUs that its pods take."""

import numpy as np
from topology_plans import view_with

from gpuyard.baselines.room import Room
from gpuyard.baselines.topology.request import lowest_gpus, make_request


def test_pods_of_a_node_take_its_lowest_gpus_in_order_of_the_pods():
    view = view_with([2, 3], {"gpus": 4})
    gpus = lowest_gpus(Room(view), np.array([1, 0, 1, 0]), np.array([1, 1, 1, 1]))
    assert gpus.tolist() == [13, 6, 14, 7]  # free are 6, 7 and 13, 14, 15


def test_the_last_pod_is_the_remainder():
    view = view_with([8, 8, 8], {"gpus": 20})
    request = make_request(Room(view), view.pending[0], 0)
    assert request.sizes.tolist() == [8, 8, 4]
    assert make_request(Room(view), view.pending[0], 0, pod_gpus=3).sizes.tolist() == [3] * 6 + [2]
