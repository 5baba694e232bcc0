"""Rates of jobs in lock-step against a textbook solver, and what follows from them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from network_worlds import Kind, Net, Run
from slow_max_min import max_min

from gpuyard.envs.engine.network.names import ECMP, FLOW, OCCUPANCY, SOURCE, UNCONTENDED
from gpuyard.envs.perf.training.modes import CHAIN, CYCLIC, XOR

PAIR = ((2, 1, 1, CHAIN, 100.0),)


def senders(run: Run) -> dict[int, tuple[float, dict[int, float]]]:
    """Return limit and weight per link of every job that sends, read from its flows' entries."""
    found = {}
    for j in np.flatnonzero((run.jobs["heap_at"] >= 0) & (run.jobs["phase"] >= 0)):
        job = run.jobs[j]
        step = run.arrays["steps"][0, job["step_begin"] + job["phase"]]
        begin = job["usage_begin"] + step["begin"]
        entries = run.arrays["usages"][0, begin : begin + step["count"]]
        if len(entries):
            assert (entries["sender"] == j).all() and (entries["phase"] == job["phase"]).all()
            weights = dict(zip(entries["link"].tolist(), entries["weight"].tolist(), strict=True))
            found[int(j)] = (float(step["limit"]), weights)
    return found


def check_rates(run: Run) -> None:
    """Compare all rates, and the loads that follow, with the textbook's."""
    found = senders(run)
    capacity = run.arrays["capacity"]
    expected = max_min(
        {j: limit for j, (limit, _) in found.items()},
        {j: weights for j, (_, weights) in found.items()},
        capacity,
    )
    load = np.zeros(len(capacity))
    for j, rate in expected.items():
        assert run.jobs["rate"][j] == pytest.approx(rate, rel=1e-9)
        for link, weight in found[j][1].items():
            load[link] += weight * rate
    np.testing.assert_allclose(run.load, load, rtol=1e-9, atol=1e-6)
    assert (run.load <= capacity).all()


@st.composite
def kinds(draw: st.DrawFn) -> Kind:
    size = draw(st.sampled_from([2, 4, 8]))
    phases = []
    for _ in range(draw(st.integers(1, 3))):
        mode = draw(st.sampled_from([CYCLIC, XOR, CHAIN]))
        phases.append((size, 1, draw(st.integers(1, size - 1)), mode, draw(st.floats(1, 300))))
    compute_s = draw(st.floats(0.0, 3.0))
    return Kind(size, compute_s, tuple(phases), draw(st.floats(0, 1)) * compute_s)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_rates_equal_the_textbook_after_every_event(data: st.DataObject) -> None:
    net = Net(
        leafs=4,
        nodes_per_leaf=2,
        gpus_per_node=4,
        uplinks=4,
        spines=2,
        uplink=data.draw(st.sampled_from([30.0, 100.0, 170.0])),
        node=data.draw(st.sampled_from([100.0, 400.0])),
        queue_pairs=data.draw(st.sampled_from([1, 3])),
        routing=data.draw(st.sampled_from([ECMP, SOURCE])),
        fidelity=FLOW,
    )
    jobs = data.draw(st.lists(kinds(), min_size=2, max_size=10))
    run = Run(net, jobs, len(jobs), seed=data.draw(st.integers(0, 99)))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    waiting = list(range(len(jobs)))
    owner: dict[int, list[int]] = {}
    free = list(range(net.gpus))
    for j in waiting:
        run.set_job(j, j, float(rng.uniform(0.3, 4.0)))
    now_s = 0.0
    for _ in range(40):
        move = rng.random()
        if waiting and len(free) >= jobs[waiting[0]].gpus and move < 0.4:
            j = waiting.pop(0)
            owner[j] = [int(gpu) for gpu in rng.permutation(free)[: jobs[j].gpus]]
            free = [gpu for gpu in free if gpu not in owner[j]]
            run.enter(j, owner[j], now_s)
            run.settle(now_s)
        elif owner and move < 0.5:
            j = int(rng.choice(list(owner)))
            run.leave(j, now_s)
            run.settle(now_s)
            free += owner.pop(j)
        elif owner:
            now_s = max(now_s, run.next_event_s())
            finished = run.advance(now_s)
            if finished >= 0:
                run.leave(finished, now_s)
                run.settle(now_s)
                free += owner.pop(finished)
        if run.next_event_s() > now_s:  # all of this moment has happened
            check_rates(run)
    for j in list(owner):
        run.leave(j, now_s)
    run.settle(now_s)
    assert not run.load.any() and not run.arrays["uplink_users"].any()
    assert not run.arrays["uplink_flows"].any() and (run.arrays["link_head"] == -1).all()


@pytest.mark.parametrize("fidelity", [FLOW, OCCUPANCY])
def test_two_flows_on_a_link_take_twice_the_time_of_one(fidelity: int) -> None:
    net = Net(gpus_per_node=1, uplinks=1, spines=1, nic=12.5e9, uplink=12.5e9, fidelity=fidelity)
    kind = Kind(2, 0.0, ((2, 1, 1, CHAIN, 12.5e9),))
    one = Run(net, [kind], 1)
    one.set_job(0, 0, 5)
    assert one.replay(np.zeros(1), [[0, 2]])[1] == pytest.approx([5.0])
    two = Run(net, [kind], 2)
    for j in range(2):
        two.set_job(j, 0, 5)
    assert two.replay(np.zeros(2), [[0, 2], [1, 3]])[1] == pytest.approx([10.0, 10.0])


def test_what_a_slow_job_leaves_goes_to_the_other_but_not_by_occupancy() -> None:
    """Job 0 can send 25 of 100 (four flows out of a NIC of 100); job 1 gets the other 75."""
    ends = {}
    for fidelity in (FLOW, OCCUPANCY):
        net = Net(
            leafs=2, nodes_per_leaf=2, gpus_per_node=4, uplinks=4, spines=1,
            node=100.0, fidelity=fidelity,
        )  # fmt: skip
        run = Run(net, [Kind(8, 0.0, ((8, 1, 4, CHAIN, 25.0),)), Kind(2, 0.0, PAIR)], 2)
        run.set_job(0, 0, 1000)
        run.set_job(1, 1, 3)
        # port 0 of leaf 0 belongs to job 0, so job 1 sends from port 4, which shares uplink 0
        run.enter(0, [0, 1, 2, 3, 8, 9, 10, 11], 0.0)
        run.enter(1, [4, 12], 0.0)
        run.settle(0.0)
        run.advance(0.0)
        run.advance(0.0)
        ends[fidelity] = run.jobs["rate"].copy()
    assert ends[FLOW] == pytest.approx([25.0, 75.0])
    assert ends[OCCUPANCY] == pytest.approx([25.0, 50.0])


def test_an_iteration_computes_then_communicates_beside_its_hidden_part() -> None:
    """2 s of compute, the last 0.5 s of it beside 1.25 s of sending: 2.75 s."""
    net = Net(gpus_per_node=1, uplinks=1, spines=1, fidelity=FLOW)
    sends = ((2, 1, 1, CHAIN, 100.0), (2, 1, 1, CHAIN, 25.0))
    run = Run(net, [Kind(2, 2.0, sends, 0.5)], 1)
    run.set_job(0, 0, 2.5)
    assert run.replay(np.zeros(1), [[0, 2]])[1] == pytest.approx([2.5 * 2.75])
    assert run.jobs["alone_s"][0] == pytest.approx(2.75)
    hidden = Run(net, [Kind(2, 2.0, sends, 1.5)], 1)
    hidden.set_job(0, 0, 3.0)
    assert hidden.replay(np.zeros(1), [[0, 2]])[1] == pytest.approx([6.0])


@settings(max_examples=30, deadline=None)
@given(kinds(), st.floats(0.1, 5.0), st.integers(1, 20))
def test_stopping_and_going_on_loses_no_work(kind: Kind, work: float, stops: int) -> None:
    """A job that is stopped and started again in the same place needs as long in all."""
    net = Net(nodes_per_leaf=4, gpus_per_node=1, uplinks=2, fidelity=FLOW, routing=ECMP)
    gpus = [0, 4, 1, 5, 2, 6, 3, 7][: kind.gpus]
    run = Run(net, [kind], 1)
    run.set_job(0, 0, work)
    now_s, stops_s = 0.0, np.linspace(0.0, 1.3 * work, stops)
    for stop_s in [*stops_s, np.inf]:
        run.enter(0, gpus, now_s)
        run.settle(now_s)
        while run.next_event_s() <= stop_s:
            now_s = run.next_event_s()
            if run.advance(now_s) >= 0:
                run.leave(0, now_s)
                assert run.jobs["iterations_left"][0] == 0.0
                assert now_s == pytest.approx(work * run.jobs["alone_s"][0], rel=1e-6, abs=1e-6)
                return
        now_s = max(stop_s, now_s)
        assert run.progress(0, now_s) == pytest.approx(
            work - now_s / run.jobs["alone_s"][0], rel=1e-6, abs=1e-6
        )
        run.leave(0, now_s)


def test_bytes_sent_are_bytes_asked_for() -> None:
    """The integral of the load of a link is what its flows had to send, whoever was in the way."""
    net = Net(leafs=2, nodes_per_leaf=4, gpus_per_node=1, uplinks=2, routing=ECMP, fidelity=FLOW)
    rng = np.random.default_rng(3)
    run = Run(net, [Kind(2, float(rng.uniform(0, 2)), PAIR) for _ in range(4)], 4)
    for j in range(4):
        run.set_job(j, j, 7)
        run.enter(j, [j, 4 + j], 0.0)
    run.settle(0.0)
    sent, now_s = np.zeros(len(run.load)), 0.0
    while run.next_event_s() < np.inf:
        event_s = run.next_event_s()
        sent += run.load * (event_s - now_s)
        now_s = event_s
        finished = run.advance(now_s)
        if finished >= 0:
            run.leave(finished, now_s)
            run.settle(now_s)
    nodes = 8
    assert sent[:4] == pytest.approx([700.0] * 4)  # up, out of the four senders' nodes
    assert sent[nodes + 4 : 2 * nodes] == pytest.approx([700.0] * 4)  # down into the receivers'
    assert sent[2 * nodes : 2 * nodes + 2].sum() == pytest.approx(2800.0)
    assert sent[2 * nodes + 4 + 2 : 2 * nodes + 8].sum() == pytest.approx(2800.0)


def test_uncontended_jobs_only_know_their_nic() -> None:
    net = Net(nodes_per_leaf=4, gpus_per_node=1, uplinks=1, spines=1, fidelity=UNCONTENDED)
    run = Run(net, [Kind(2, 1.0, PAIR)], 4)
    for j in range(4):
        run.set_job(j, 0, 10)
    _, ends = run.replay(np.zeros(4), [[j, 4 + j] for j in range(4)])
    assert ends == pytest.approx([20.0] * 4)
