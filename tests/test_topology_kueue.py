"""Kueue's topology-aware scheduling, best fit and balanced."""

import numpy as np
from topology_plans import LEAF, nodes_of, plan_on

from gpuyard.baselines.topology.kueue import balance, take


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
