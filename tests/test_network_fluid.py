"""The fluid model: what is exact about it, and how close it comes to the flow-level one."""

from __future__ import annotations

import numpy as np
import pytest
from fluid_vs_flow import CASES, compare
from hypothesis import given, settings
from hypothesis import strategies as st
from network_worlds import Kind, Net, Run

from gpuyard.envs.engine.network.names import ECMP, FLOW, FLUID, SOURCE
from gpuyard.envs.perf.training.modes import CHAIN

ONE_LINK = Net(leafs=2, nodes_per_leaf=4, gpus_per_node=1, uplinks=1, spines=1)


def iterations_s(compute_s: list[float], bytes_sent: list[float]) -> np.ndarray:
    """Return seconds of an iteration of jobs that share one link of 100 bytes/s."""
    kinds = [
        Kind(2, compute, ((2, 1, 1, CHAIN, size),))
        for compute, size in zip(compute_s, bytes_sent, strict=True)
    ]
    run = Run(ONE_LINK, kinds, len(kinds))
    for j in range(len(kinds)):
        run.set_job(j, j, 1000)
        run.enter(j, [j, 4 + j], 0.0)
    run.settle(0.0)
    return run.jobs["iteration_s"].copy()


@given(st.floats(0.0, 5.0), st.floats(0.0, 5.0), st.floats(1.0, 300.0), st.floats(1.0, 300.0))
@settings(max_examples=50, deadline=None)
def test_two_jobs_follow_mean_value_analysis(
    first_s: float, second_s: float, first: float, second: float
) -> None:
    """Each meets the other as if that were alone: comm = alone * (1 + duty of the other alone)."""
    found = iterations_s([first_s, second_s], [first, second])
    a, b = first / 100, second / 100
    assert found[0] == pytest.approx(first_s + a * (1 + b / (second_s + b)), rel=1e-6)
    assert found[1] == pytest.approx(second_s + b * (1 + a / (first_s + a)), rel=1e-6)


def test_jobs_that_only_communicate_share_evenly() -> None:
    """Four such jobs on one link take four times as long, and fill it."""
    assert iterations_s([0.0] * 4, [100.0] * 4) == pytest.approx([4.0] * 4, rel=1e-3)


@given(st.integers(1, 4), st.floats(0.0, 4.0))
@settings(max_examples=20, deadline=None)
def test_equal_jobs_come_close_to_exact_mean_value_analysis(jobs: int, compute_s: float) -> None:
    """n customers, a delay and one shared station: R(n) = s (1 + Q(n-1)), Q(n) = n R / (Z + R)."""
    queue, response_s = 0.0, 1.0
    for n in range(1, jobs + 1):
        response_s = 1.0 + queue
        queue = n * response_s / (compute_s + response_s)
    found = iterations_s([compute_s] * jobs, [100.0] * jobs)
    assert found == pytest.approx([compute_s + response_s] * jobs, rel=0.03)


def test_jobs_that_share_nothing_are_not_touched() -> None:
    net = Net(leafs=2, nodes_per_leaf=4, gpus_per_node=1, uplinks=4, spines=4, routing=SOURCE)
    run = Run(net, [Kind(2, 1.0, ((2, 1, 1, CHAIN, 100.0),))], 3)
    for j in range(3):
        run.set_job(j, 0, 10)
    run.enter(0, [0, 4], 0.0)
    run.settle(0.0)
    run.enter(1, [1, 5], 3.0)
    run.settle(3.0)
    assert run.jobs["since_s"][0] == 0.0  # nobody looked at it
    assert run.next_event_s() == 20.0


@given(st.integers(0, 50))
@settings(max_examples=15, deadline=None)
def test_load_stays_within_capacity_and_goes_with_the_jobs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    net = Net(leafs=4, nodes_per_leaf=2, gpus_per_node=4, uplinks=4, routing=ECMP, uplink=60.0)
    kinds = [
        Kind(4, float(rng.uniform(0, 1)), ((4, 1, 1, 0, float(rng.uniform(1, 500))),))
        for _ in range(8)
    ]
    run = Run(net, kinds, 8, seed)
    gpus = rng.permutation(net.gpus).reshape(8, 4).tolist()
    for j in range(8):
        run.set_job(j, j, 5)
        run.enter(j, gpus[j], 0.0)
        run.settle(0.0)
        assert (run.load <= run.arrays["capacity"]).all()
    assert (run.jobs["iteration_s"] >= run.jobs["alone_s"] * (1 - 1e-12)).all()
    for j in range(8):
        run.leave(j, 1.0)
        run.settle(1.0)
    assert not run.load.any()


def test_work_is_conserved_when_rates_change() -> None:
    """1 s alone, then beside another: the rest goes at the slower pace."""
    run = Run(ONE_LINK, [Kind(2, 1.0, ((2, 1, 1, CHAIN, 100.0),))], 2)
    for j in range(2):
        run.set_job(j, 0, 10)
    begun, ends = run.replay(np.array([0.0, 4.0]), [[0, 4], [1, 5]])
    # job 0: 2 iterations in 4 s, 8 at 2.5 s; job 1: 8 at 2.5 s, the last 2 alone
    assert ends == pytest.approx([24.0, 28.0], rel=1e-3)
    assert begun.tolist() == [0.0, 4.0]


@pytest.mark.parametrize("case", ["1:1, source", "1:1, ECMP", "rails", "three tiers"])
def test_fluid_comes_close_to_flow(case: str) -> None:
    """Mean run time within 3 %, 95th percentile of the slowdown within 10 %."""
    runs = [compare(CASES[case], num_jobs=80, iterations=80, seed=seed) for seed in range(3)]
    found = {name: np.concatenate([run[name] for run in runs]) for name in runs[0]}
    assert found["fluid"].mean() == pytest.approx(found["flow"].mean(), rel=0.03)
    fluid, flow = found["fluid"] / found["alone"], found["flow"] / found["alone"]
    assert np.percentile(fluid, 95) == pytest.approx(np.percentile(flow, 95), rel=0.10)


def test_flow_and_fluid_agree_where_nobody_meets() -> None:
    ends = {}
    for fidelity in (FLUID, FLOW):
        net = Net(
            leafs=2, nodes_per_leaf=4, gpus_per_node=1, uplinks=4, spines=4, fidelity=fidelity
        )
        run = Run(net, [Kind(2, 1.0, ((2, 1, 1, CHAIN, 100.0),), 0.3)], 4)
        for j in range(4):
            run.set_job(j, 0, 10)
        ends[fidelity] = run.replay(np.zeros(4), [[j, 4 + j] for j in range(4)])[1]
    assert ends[FLUID] == pytest.approx(ends[FLOW])
    assert ends[FLUID] == pytest.approx([17.0] * 4)
