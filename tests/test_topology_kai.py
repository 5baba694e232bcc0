"""KAI's topology constraints: its zones and racks, and the level it takes."""

from topology_plans import LEAF, POD, nodes_of, plan_on


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
