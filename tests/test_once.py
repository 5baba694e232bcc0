"""One-shot senders: fluid against flow, both against numbers known otherwise."""

from __future__ import annotations

import math
from types import SimpleNamespace

import kv_transfer_load as grid
import kv_transfer_worlds as worlds
import numpy as np
import pytest
from network_worlds import Kind, Net
from once_worlds import TRANSFER, Trip

from gpuyard.envs.engine.core.records import records
from gpuyard.envs.engine.network.books import rate_within
from gpuyard.envs.engine.network.names import ECMP, FLOW, FLUID, OCCUPANCY, SOURCE, UNCONTENDED
from gpuyard.envs.engine.network.records import LEVELS
from gpuyard.envs.perf.training.modes import CHAIN

RATE = 50.0  # of the one link
TRAINER = Kind(2, 0.3, ((2, 1, 1, CHAIN, 5.0),))  # 0.1 s of communication alone


def one_link(fidelity: int, nodes: int = 3) -> Net:
    """Return nodes of one GPU under two leaf switches, between which there is one link."""
    size = {"leafs": 2, "nodes_per_leaf": nodes, "gpus_per_node": 1, "uplinks": 1, "spines": 1}
    return Net(**size, nic=1e6, uplink=RATE, fidelity=fidelity)


def sent(starts_s, sizes, nodes: int = 3, first: int = 1):
    """Return transfers over the one link, from node ``first`` on."""
    found = records(len(starts_s), TRANSFER)
    found["start_s"], found["bytes"], found["gpus"] = starts_s, sizes, 1
    found["source"] = first + np.arange(len(found)) % (nodes - first)
    found["target"] = nodes + found["source"]
    return found


def example(fidelity: int) -> Trip:
    """One trainer; A is 2 GB at 0.28 s, when it computes, B 1 GB at 0.31 s, when it sends."""
    transfers = sent([0.28, 0.31], [2.0, 1.0])
    return Trip(one_link(fidelity), [TRAINER], [[0, 3]], [0.0], transfers, 1e6)


@pytest.mark.parametrize(
    ("fidelity", "expected"),
    [
        (FLUID, [0.075, 0.055]),
        (FLOW, [0.075, 0.055]),
        (OCCUPANCY, [0.075, 0.055]),
        (UNCONTENDED, [2 / 1e6, 1 / 1e6]),
    ],
)
def test_the_worked_example(fidelity, expected):
    """By hand, docs/contention.md."""
    trip = example(fidelity)
    assert trip.go(0.0, 0.35)[0] == pytest.approx(expected, abs=1e-3 if fidelity < 3 else 1e-9)
    if fidelity == FLUID:
        trainer = trip.run.arrays["senders"][0, 0]
        # 0.01 s at half its pace, 0.045 at a third, 0.01 at half; levels are steps of 9 %
        assert trainer["told_s"] == pytest.approx(0.365, abs=1e-5)
        assert trainer["rest_s"] == pytest.approx(0.075, abs=1e-3)


def test_on_one_link_it_is_processor_sharing():
    """As in flow to 1e-9, and the mean slowdown of M/G/1-PS, 1 / (1 - load), within 3 sigma."""
    rng, load, count = np.random.default_rng(4), 0.5, 20_000
    sizes = np.clip(np.exp(rng.normal(0.0, 0.9, count)), 0.1, 8.0)
    starts_s = np.cumsum(rng.exponential(sizes.mean() / RATE / load, count))
    times = {}
    for fidelity in (FLUID, FLOW):
        trip = Trip(one_link(fidelity), [], [], [], sent(starts_s, sizes, first=0), 1e6)
        times[fidelity], _ = trip.go(0.0, 1.0)
    np.testing.assert_allclose(times[FLUID], times[FLOW], rtol=1e-9)
    slowdown = (times[FLUID] / (sizes / RATE)).reshape(40, -1).mean(axis=1)
    sigma = slowdown.std() / math.sqrt(len(slowdown))
    assert abs(slowdown.mean() - 1 / (1 - load)) < 3 * sigma < 0.2


@pytest.mark.parametrize(("load", "mean", "p95"), [(0.2, 0.01, 0.02), (0.5, 0.03, 0.04)])
@pytest.mark.parametrize("tp", [8, 1])
def test_without_gangs(load, mean, p95, tp):
    errors = grid.run(grid.Cell(1, ECMP, 0.0, load, tp), 0, 4000).errors()
    assert abs(errors["mean"]) < mean and abs(errors["p95"]) < p95


def test_beside_gangs():
    """A few cells of the grid; ``benchmarks/kv_transfer_load.py`` has all of them."""
    cells = [
        *(grid.Cell(1, SOURCE, 0.2, 0.05, 8), grid.Cell(2, ECMP, 0.2, 0.2, 8)),
        *(grid.Cell(2, SOURCE, 0.5, 0.5, 8), grid.Cell(4, ECMP, 0.5, 0.2, 1)),
        grid.Cell(4, ECMP, 0.5, 0.5, 8),
    ]
    found = [grid.run(cell, 0, 6000).errors() for cell in cells]
    for number, worst, average in (
        ("mean", 0.12, 0.03),
        ("p95", 0.15, 0.03),
        ("gangs", 0.05, 0.02),
    ):
        errors = np.array([errors[number] for errors in found])
        assert np.abs(errors).max() < worst, (number, errors)
        assert abs(errors.mean()) < average, (number, errors)


@pytest.mark.parametrize("alone_s", [0.002, 0.01])
def test_one_gang_on_one_link_at_half_load(alone_s):
    """Its communication is within 2 % of flow, and so are the transfers."""
    rng = np.random.default_rng(1)
    starts_s = np.cumsum(rng.exponential(2 * alone_s, 30_000))
    transfers = sent(starts_s, rng.exponential(alone_s * RATE, len(starts_s)))
    comm_s, mean_s = {}, {}
    for fidelity in (FLUID, FLOW):
        trip = Trip(one_link(fidelity), [TRAINER], [[0, 3]], [0.0], transfers, 1e6)
        times_s, iteration_s = trip.go(1.0, starts_s[-1])
        comm_s[fidelity], mean_s[fidelity] = iteration_s[0] - 0.3, times_s.mean()
    assert comm_s[FLOW] > 0.15
    assert comm_s[FLUID] == pytest.approx(comm_s[FLOW], rel=0.02)
    assert mean_s[FLUID] == pytest.approx(mean_s[FLOW], rel=0.02)


def busy(load: float, seed: int = 0) -> Trip:
    """Return gangs and some transfers of the grid at 2:1."""
    cell, rng = grid.Cell(2, SOURCE, 0.2, load, 8), np.random.default_rng(seed)
    kinds, gpus = grid.gangs(cell, rng, seed)
    transfers = grid.transfers(cell, rng, 400, 20.0)
    starts_s = [0.1 * j for j in range(len(kinds))]
    return Trip(grid.net(cell, FLUID), kinds, gpus, starts_s, transfers, grid.NIC, seed)


def entries(arrays, sender):
    begin = sender["usage_begin"]
    return arrays["usages"][0, begin : begin + sender["usage_count"]]


def test_sums_of_links_equal_a_recount_after_every_event():
    """And no link is used beyond its capacity, and nobody is faster than alone."""
    trip = busy(0.5)
    arrays, capacity = trip.run.arrays, trip.run.arrays["capacity"]
    jobs, solved = len(trip.kinds), 0
    for now_s in trip.events():
        expected = {name: np.zeros(len(capacity)) for name in ("flows", "held", "other", "used")}
        for sender in arrays["senders"][0, jobs:]:
            if sender["heap_at"] < 0 or sender["phase"] < 0:
                continue
            solved += sender["since_s"] == now_s
            alone = arrays["steps"][0, sender["step_begin"]]["limit"]
            for usage in entries(arrays, sender):
                link, weight = usage["link"], float(usage["weight"])
                held = sender["bottleneck"] == link
                expected["flows"][link] += weight
                expected["held"][link] += weight * held
                expected["other"][link] += weight * sender["rate"] * (not held)
                expected["used"][link] += weight * sender["rate"]
                alone = min(alone, capacity[link] / weight)
            assert 0 < sender["rate"] <= alone * (1 + 1e-9)
        links = arrays["links"][0]
        for name, values in expected.items():
            scale = 1.0 if name in ("flows", "held") else grid.NIC
            np.testing.assert_allclose(links[name] / scale, values / scale, atol=1e-6, err_msg=name)
        assert (expected["used"] <= capacity * (1 + 1e-6)).all()
        assert (trip.run.load <= capacity).all()
        check_levels(arrays, jobs)
    assert solved < 12 * len(trip.transfers), "senders solved per transfer"
    assert not any(links[name].any() for name in expected)


def check_levels(arrays, jobs):
    """Each phase's histogram counts its entries, and its level is the highest of these."""
    for sender in arrays["senders"][0, :jobs]:
        if sender["heap_at"] < 0:
            continue
        levels = entries(arrays, sender)["level"]
        counts = arrays["levels"][0, sender["step_begin"]]
        np.testing.assert_array_equal(counts, np.bincount(levels, minlength=LEVELS))
        assert arrays["steps"][0, sender["step_begin"]]["level"] == levels.max(initial=0)


def test_what_shares_no_link_changes_nothing():
    """The trainer crosses between leafs, the transfer stays under one of them."""
    transfers = sent([0.32, 0.325], [0.5, 0.5])
    transfers["target"] = 2
    transfers["source"] = 1
    trip = Trip(one_link(FLUID), [TRAINER], [[0, 3]], [0.0], transfers, RATE)
    times_s, iteration_s = trip.go(0.1, 2.0)
    assert trip.run.jobs["since_s"][0] == 0.0, "nobody looked at it"
    assert iteration_s == pytest.approx([0.4])
    assert times_s == pytest.approx([0.015, 0.015])  # 0.005 s alone, 0.01 s together


def test_a_gang_is_as_fast_as_before_when_transfers_have_gone():
    """What they cost fades, though nothing happens on the gang's links any more."""
    starts_s = np.arange(0.0, 20.0, 0.02)
    transfers = sent(starts_s, np.full(len(starts_s), 0.5))
    trip = Trip(one_link(FLUID), [TRAINER], [[0, 3]], [0.0], transfers, 1e6)
    _, iteration_s = trip.go(10.0, 20.0)
    assert iteration_s[0] > 0.44
    assert trip.run.jobs["once_s"][0] > 0.04
    while trip.run.jobs["once_s"][0] > 0.0:
        now_s = trip.run.next_event_s()
        assert trip.run.advance(now_s) == -1 and now_s < 60.0
        assert trip.run.next_event_s() > now_s
    assert trip.run.jobs["iteration_s"][0] == pytest.approx(0.4)


@pytest.mark.parametrize("fidelity", [FLUID, FLOW, OCCUPANCY])
def test_what_is_given_up_leaves_its_links_to_the_others(fidelity):
    """Two share the link from 0 on; one is recalled at 0.01 s, with 0.25 of 0.5 GB sent."""
    trip = Trip(one_link(fidelity), [], [], [], sent([0.0, 0.0], [0.5, 0.5], first=0), 1e6)
    events = trip.events()
    while next(events) == 0.0:
        if (trip.run.arrays["senders"]["rate"][0] > 0).all():
            break
    assert trip.run.arrays["senders"]["rate"][0] == pytest.approx([25.0, 25.0])
    trip.run.recall(0, 0.01)
    trip.run.settle(0.01)
    assert trip.run.next_event_s() == pytest.approx(0.015), "0.25 GB at 50 GB/s"
    assert trip.run.arrays["network"]["once_running"][0] == 1
    trip.run.recall(1, 0.012)
    trip.run.settle(0.012)
    heads = trip.run.arrays["once_head" if fidelity == FLUID else "link_head"]
    assert (heads == -1).all() and not trip.run.load.any()
    assert trip.run.next_event_s() == math.inf


@pytest.mark.parametrize("fidelity", [FLUID, FLOW])
def test_between_pods_it_crosses_the_core(fidelity):
    """2 GB over uplinks of 50 and a core link of 20 GB/s take 0.1 s."""
    net = Net(
        *(2, 3, 1),
        **{"uplinks": 1, "spines": 1, "leafs_per_pod": 1, "core_uplinks": 1, "nic": 1e6},
        **{"uplink": RATE, "core": 20.0, "fidelity": fidelity},
    )
    times_s, _ = Trip(net, [], [], [], sent([0.0], [2.0]), 1e6).go(0.0, 0.05)
    assert times_s == pytest.approx([0.1])


def test_whole_worlds():
    """TTFT, transfers and jobs of a joint world; ``benchmarks/kv_transfer_worlds.py`` has more."""
    found = worlds.compare(8.0, 8.0, seeds=2, span_s=30.0)
    assert found["flow"]["transfer_s"] > 0.4, "it waits for others"
    for name in worlds.NUMBERS:
        assert found["fluid"][name] == pytest.approx(found["flow"][name], rel=0.05), name


@pytest.mark.parametrize(
    ("rates", "weights", "expected"),
    [
        ([30.0, 30.0, 10.0], [1.0, 1.0, 1.0], 20.0),
        ([40.0, 5.0], [2.0, 1.0], 22.5),
        ([60.0], [1.0], 50.0),
        ([18.0, 40.0, 40.0, 1.0], [1.0, 1.0, 0.5, 1.0], 62 / 3),
    ],
)
def test_a_crowded_link_cuts_its_fastest_flows(rates, weights, expected):
    """By hand, a link of 50: slower flows keep their rates, the others share what these leave."""
    size = len(rates)
    w = SimpleNamespace(
        capacity=[50.0],
        links={(0, 0): SimpleNamespace(flows=sum(weights))},
        once_head=np.zeros((1, 1), int),
        senders={(0, j): SimpleNamespace(rate=rate) for j, rate in enumerate(rates)},
        usages={
            (0, j): SimpleNamespace(sender=j, weight=weight, next=j + 1 if j + 1 < size else -1)
            for j, weight in enumerate(weights)
        },
    )
    assert rate_within.py_func(w, 0, 0) == pytest.approx(expected)
