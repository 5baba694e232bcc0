"""Which links flows take."""

from __future__ import annotations

import math

import numpy as np
import pytest
from network_worlds import Kind, Net, Run

from gpuyard.envs.engine.network.names import BALANCED, ECMP, FLOW, FLUID, SOURCE
from gpuyard.envs.perf.training.modes import CHAIN, CYCLIC, XOR


def uplink_weights(run: Run) -> np.ndarray:
    """Return flows on every uplink of every leaf switch by direction, (2, S, U)."""
    found = np.zeros(len(run.load))
    live = run.arrays["usages"][0, : run.arrays["network"]["usages"][0]]
    live = live[live["sender"] >= 0]
    np.add.at(found, live["link"], live["weight"])
    nodes = run.net.leafs * run.net.nodes_per_leaf
    switches, uplinks = run.net.leafs * run.net.rails, run.net.uplinks
    return found[2 * nodes :][: 2 * switches * uplinks].reshape(2, switches, uplinks)


def one_job(net: Net, phases: tuple, gpus: list[int], seed: int = 0) -> Run:
    run = Run(net, [Kind(len(gpus), 1.0, phases)], 1, seed)
    run.set_job(0, 0, 1)
    run.enter(0, gpus, 0.0)
    run.settle(0.0)
    return run


def test_flows_inside_a_node_or_leaf_use_no_uplink() -> None:
    net = Net(leafs=2, nodes_per_leaf=2, gpus_per_node=4, uplinks=4)
    inside = one_job(net, ((4, 1, 1, CYCLIC, 100.0),), [0, 1, 2, 3])
    assert inside.arrays["network"]["usages"][0] == 0
    assert inside.jobs["ideal_s"][0] == pytest.approx(1.0 + 100.0 / net.scale_up)
    leaf = one_job(net, ((8, 1, 1, CYCLIC, 100.0),), list(range(8)))
    assert not uplink_weights(leaf).any()
    assert leaf.arrays["network"]["usages"][0] == 4  # up and down of both nodes
    assert leaf.jobs["ideal_s"][0] == pytest.approx(2.0)  # the NIC is the slowest part


def test_source_routes_of_one_leaf_never_share_an_uplink() -> None:
    net = Net(leafs=4, nodes_per_leaf=4, gpus_per_node=4, uplinks=16, spines=4, routing=SOURCE)
    for shift in (16, 17, 31, 48):
        run = one_job(net, ((64, 1, shift, CYCLIC, 1.0),), list(range(64)))
        up, down = uplink_weights(run)
        assert up.max() == 1.0
        # whole leafs shifted by whole leafs: nothing is shared on the way down either
        assert down.max() == 1.0 or shift % 16


def test_ecmp_collisions_have_the_probability_of_birthdays() -> None:
    """P(some uplink carries two of N flows on M) = 1 - M! / ((M - N)! M^N)."""
    flows, uplinks, trials = 4, 8, 1500
    net = Net(leafs=2, nodes_per_leaf=4, gpus_per_node=1, uplinks=uplinks, spines=8, routing=ECMP)
    phase = ((8, 1, 4, CHAIN, 1.0),)
    shared = sum(
        uplink_weights(one_job(net, phase, list(range(8)), seed))[0].max() > 1
        for seed in range(trials)
    )
    expected = 1 - math.prod(1 - i / uplinks for i in range(flows))
    assert abs(shared / trials - expected) < 3 * math.sqrt(expected * (1 - expected) / trials)


@pytest.mark.parametrize(
    ("uplinks", "flows", "slowdown"),
    [(4, 4, 2.14), (8, 4, 1.65), (8, 16, 2.09), (16, 16, 3.09), (16, 4, 1.34), (16, 64, 1.97)],
)
def test_ecmp_slows_a_lock_step_job_as_tabulated(uplinks: int, flows: int, slowdown: float) -> None:
    """E[max load] / max(1, k/n), the table of Monte Carlo means over 4,000 draws."""
    trials = 300
    net = Net(
        leafs=2, nodes_per_leaf=flows, gpus_per_node=1, uplinks=uplinks, spines=uplinks,
        routing=ECMP,
    )  # fmt: skip
    phase = ((2 * flows, 1, flows, CHAIN, 1.0),)
    found = [
        uplink_weights(one_job(net, phase, list(range(2 * flows)), seed))[0, 0].max()
        / max(1, flows / uplinks)
        for seed in range(trials)
    ]
    sigma = np.std(found) * math.sqrt(1 / trials + 1 / 4000)
    assert abs(np.mean(found) - slowdown) < 3 * sigma + 0.005


def test_queue_pairs_split_flows() -> None:
    net = Net(gpus_per_node=1, uplinks=8, spines=8, queue_pairs=4, routing=ECMP)
    run = one_job(net, ((2, 1, 1, CHAIN, 1.0),), [0, 2])
    up, _ = uplink_weights(run)
    assert up.sum() == pytest.approx(1.0)
    assert up.max() < 1.0  # four parts, not all on one of eight


def test_balanced_parts_spread_evenly() -> None:
    net = Net(leafs=2, nodes_per_leaf=8, gpus_per_node=1, uplinks=4, spines=4, routing=BALANCED)
    run = one_job(net, ((16, 1, 8, CHAIN, 1.0),), list(range(16)))
    assert uplink_weights(run)[0, 0].tolist() == [2.0, 2.0, 2.0, 2.0]


def test_planes_take_turns() -> None:
    """Two parts of a flow leave through the two ports of the NIC, each in its own plane."""
    net = Net(gpus_per_node=1, uplinks=8, spines=8, planes=2, queue_pairs=2, routing=ECMP)
    for seed in range(20):
        up, _ = uplink_weights(one_job(net, ((2, 1, 1, CHAIN, 1.0),), [0, 2], seed))
        used = np.flatnonzero(up[0])
        assert sorted(used % 2) == [0, 1]


def test_rails_stay_apart() -> None:
    """On a rail-optimised fabric same-slot flows of a group never climb; others do."""
    net = Net(leafs=2, nodes_per_leaf=2, gpus_per_node=4, rails=4, uplinks=2)
    same = one_job(net, ((2, 4, 1, CYCLIC, 1.0),), list(range(8)))
    assert not uplink_weights(same).any()
    across = one_job(net, ((8, 1, 5, CYCLIC, 1.0),), list(range(8)))
    assert uplink_weights(across).any()


def test_pods_meet_in_the_core() -> None:
    """Node up, leaf up, core up, core down, leaf down, node down: one link of each."""
    net = Net(
        leafs=4, nodes_per_leaf=1, gpus_per_node=1, uplinks=2, spines=2,
        leafs_per_pod=2, core_uplinks=2, routing=ECMP,
    )  # fmt: skip
    run = one_job(net, ((2, 1, 1, CHAIN, 1.0),), [0, 3])
    links = np.sort(run.arrays["usages"][0, :6]["link"])
    begin = np.array([0, 4, 8, 16, 24, 32])  # of each group of links
    assert (np.searchsorted(begin, links, side="right") == np.arange(1, 7)).all()
    spine = (links[2] - 8) % 2
    assert (links[4] - 24) // 2 == spine - 0 or (links[4] - 24) // 2 % 2 == spine
    near = one_job(net, ((2, 1, 1, CHAIN, 1.0),), [0, 1])
    assert (near.arrays["usages"][0, :4]["link"] < 24).all()


@pytest.mark.parametrize("fidelity", [FLUID, FLOW])
def test_reserved_uplinks_see_no_contention(fidelity: int) -> None:
    """A gang on uplinks of its own runs as if alone beside a gang that wants them all."""
    net = Net(
        leafs=2, nodes_per_leaf=4, gpus_per_node=1, uplinks=4, spines=4,
        routing=ECMP, fidelity=fidelity,
    )  # fmt: skip
    ring = (4, 1, 2, XOR, 100.0)
    run = Run(net, [Kind(4, 0.5, (ring,))], 2)
    for j in range(2):
        run.set_job(j, 0, 20)
    run.arrays["uplink_owner"][0, :, :2] = 0
    run.jobs["reserved"][0] = 1
    run.arrays["gpu_uplink"][0, [0, 1, 4, 5]] = [0, 1, 0, 1]
    _, ends = run.replay(np.zeros(2), [[0, 1, 4, 5], [2, 3, 6, 7]])
    assert ends[0] == pytest.approx(20 * 1.5)
    assert ends[0] == pytest.approx(20 * run.jobs["ideal_s"][0])
    run.enter(1, [2, 3, 6, 7], 100.0)
    up, down = uplink_weights(run)
    assert not up[:, :2].any() and not down[:, :2].any()


def test_optical_circuits_lead_to_their_spines() -> None:
    """Uplinks 0 and 1 of leaf 0 end at spine 3; only uplink 2 of leaf 1 does as well."""
    net = Net(leafs=2, nodes_per_leaf=2, gpus_per_node=1, uplinks=4, spines=4, optical=1)
    run = Run(net, [Kind(4, 0.5, ((4, 1, 2, CHAIN, 100.0),))], 1)
    run.set_job(0, 0, 1)
    run.arrays["circuits"][0] = [[3, 3, -1, -1], [-1, -1, 3, -1]]
    run.arrays["uplink_owner"][0] = [[0, 0, -1, -1], [-1, -1, 0, -1]]
    run.jobs["reserved"][0] = 1
    run.arrays["gpu_uplink"][0] = [0, 1, 2, 2]
    run.enter(0, [0, 1, 2, 3], 0.0)
    up, down = uplink_weights(run)
    assert up.tolist() == [[1.0, 1.0, 0.0, 0.0], [0.0] * 4]
    assert down.tolist() == [[0.0] * 4, [0.0, 0.0, 2.0, 0.0]]
