"""Delay scheduling: how long a gang holds out for a node, a leaf, a pod."""

from topology_plans import nodes_of, view_with

from gpuyard import baselines


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
