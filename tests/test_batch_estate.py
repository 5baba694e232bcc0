"""The estate of batch jobs: days by hand, and what no day may do."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from estate import DAY_S, NEW, OLD, Clusters, Estate, day, generate


def estate(durations_s: list[float], depends: list[list[int]], **fields: object) -> Estate:
    """Return jobs of these run times and dependencies, all released at midnight."""
    count = len(durations_s)
    before = np.concatenate(([0], np.cumsum([len(mine) for mine in depends])))
    plain = Estate(
        flow=np.zeros(count, np.int64),
        release_s=np.zeros(count),
        duration_s=np.array(durations_s),
        due_s=np.full(count, math.inf),
        urgent_s=np.full(count, math.inf),
        output_bytes=np.zeros(count),
        before=before,
        depends=np.array([at for mine in depends for at in mine], np.int64),
        found_day=np.zeros(count),
    )
    return replace(plain, **fields)  # type: ignore[arg-type]


def clusters(old: int, new: int = 0, link_bytes_per_s: float = 1.0) -> Clusters:
    return Clusters(np.array([[old] * 24, [new] * 24], np.int64), link_bytes_per_s)


def played(jobs: Estate, where: list[int], on: Clusters) -> list[float]:
    return day(jobs, on, np.array(where), jobs.duration_s).tolist()


def test_one_slot_runs_one_after_the_other():
    assert played(estate([10.0, 20.0], [[], []]), [OLD, OLD], clusters(1)) == [10.0, 30.0]
    assert played(estate([10.0, 20.0], [[], []]), [OLD, OLD], clusters(2)) == [10.0, 20.0]


def test_the_most_urgent_goes_first():
    jobs = estate([10.0, 20.0, 5.0], [[], [], []], urgent_s=np.array([math.inf, 50.0, 100.0]))
    # the first to be released holds the slot; then the deadline counts
    assert played(jobs, [OLD] * 3, clusters(1)) == [10.0, 30.0, 35.0]


def test_a_job_waits_for_all_that_it_reads():
    jobs = estate([10.0, 30.0, 1.0], [[], [], [0, 1]])
    assert played(jobs, [OLD] * 3, clusters(8)) == [10.0, 30.0, 31.0]


def test_what_is_read_elsewhere_is_copied_once_over_one_link():
    sizes = np.array([100.0, 50.0, 0.0, 0.0, 0.0])
    jobs = estate([10.0, 10.0, 1.0, 1.0, 1.0], [[], [], [0], [0], [1]], output_bytes=sizes)
    # 0's 100 bytes arrive at 110, both readers share them; 1's come behind them, at 160
    found = played(jobs, [OLD, OLD, NEW, NEW, NEW], clusters(8, 8))
    assert found == [10.0, 10.0, 111.0, 111.0, 161.0]


def test_nothing_runs_after_what_runs_nowhere():
    jobs = estate([10.0, 10.0], [[], [0]])
    assert played(jobs, [-1, OLD], clusters(8)) == [math.inf, math.inf]


def test_a_service_takes_slots_by_the_hour_and_stops_nobody():
    slots = np.zeros((2, 24), np.int64)
    slots[OLD, 0], slots[OLD, 2] = 2, 1
    jobs = estate([5400.0, 3600.0, 3600.0], [[], [], [1]])
    # hour 1 has no slot, though the first job holds one until 5400: the third begins with hour 2
    assert played(jobs, [OLD] * 3, Clusters(slots, 1.0)) == [5400.0, 3600.0, 10800.0]


def test_what_has_not_run_at_midnight_is_given_up():
    jobs = estate([DAY_S / 2, DAY_S / 2 + 1], [[], [0]])
    assert played(jobs, [OLD, OLD], clusters(1)) == [DAY_S / 2, math.inf]


@pytest.mark.parametrize("seed", range(4))
def test_a_generated_day_keeps_its_rules(seed: int):
    rng = np.random.default_rng(seed)
    jobs = generate(600, rng)
    where = rng.integers(-1, 2, 600)
    on = Clusters(rng.integers(1, 6, (2, 24)), 1e8)
    finish_s = day(jobs, on, where, jobs.duration_s)
    begin_s = finish_s - jobs.duration_s
    has_run = np.isfinite(finish_s)
    assert not has_run[where < 0].any()
    assert (begin_s[has_run] >= jobs.release_s[has_run] - 1e-6).all()
    for job in np.flatnonzero(has_run):
        waits = jobs.depends[jobs.before[job] : jobs.before[job + 1]]
        assert (waits < job).all() and (finish_s[waits] <= begin_s[job] + 1e-6).all()
    for cluster in (OLD, NEW):
        mine = np.flatnonzero(has_run & (where == cluster))
        for at in begin_s[mine]:
            held = ((begin_s[mine] <= at + 1e-6) & (finish_s[mine] > at + 1e-6)).sum()
            # an hour with fewer slots stops nobody, so what runs may be from the hours before
            assert held <= on.slots[cluster, : int(at // 3600) + 1].max()


def test_urgency_is_handed_on():
    jobs = generate(400, np.random.default_rng(0))
    for job in range(400):
        for waits in jobs.depends[jobs.before[job] : jobs.before[job + 1]]:
            assert jobs.urgent_s[waits] <= jobs.urgent_s[job] - jobs.duration_s[job]
    assert (jobs.urgent_s <= jobs.due_s).all()
