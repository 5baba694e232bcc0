"""Multifactor priority and QOS, by the numbers of Slurm's documentation."""

from __future__ import annotations

import numpy as np
import pytest

from gpuyard.baselines.slurm.priority import (
    Factors,
    Weights,
    age,
    job_size,
    multifactor,
    normalised,
    size_over_time,
    weighted,
)
from gpuyard.baselines.slurm.qos import Limits, Preemption, victims

DAY_S = 86_400.0
MAN_PAGE = Weights(age=1000, fairshare=100_000, job_size=1000, partition=10_000, qos=1)


@pytest.mark.parametrize(
    ("fairshare", "columns", "priority"),
    [
        (0.5166470, [0, 51664, 1000, 10000, 0], 62664),
        (0.5166370, [0, 51663, 1000, 10000, 0], 62663),
        (0.5166270, [0, 51662, 1000, 10000, 0], 62662),
    ],
)
def test_the_jobs_of_the_man_page(fairshare, columns, priority):
    """sprio(1), examples ``sprio``, ``sprio -n`` and ``sprio -w``; columns are cut there."""
    factors = Factors(0.0007180, fairshare, 1.0, 1.0, 0.0)
    shown = np.floor(weighted(factors, MAN_PAGE))
    assert shown.tolist() == columns and shown.sum() == priority
    assert multifactor(factors, MAN_PAGE) == pytest.approx(priority, abs=2)


def test_a_job_of_a_real_log():
    """Priority page of the University of Michigan's cluster Gollum: job 1601032, with a nice value.

    Its log sums to 32752.44 and prints 32752.49.
    """
    weights = Weights(age=16_800, fairshare=25_000, job_size=10_000, partition=30_000, qos=25_000)
    factors = Factors(0.251721, 0.042337, 0.996510, 0.666667, 0.0)
    assert weighted(factors, weights) == pytest.approx(
        [4228.92, 1058.42, 9965.10, 20_000.0, 0.0], abs=0.011
    )
    assert multifactor(factors, weights, nice=2500) == pytest.approx(32_752.49, abs=0.06)


def test_a_low_weight_hides_a_difference():
    """priority_multifactor, IMPORTANT: with a weight of 10, .59534 and .50002 are one priority.

    As whole numbers they are 5 and 5; with 1000, 595 and 500.
    """
    factors = Factors(fairshare=[0.59534, 0.50002])
    for weight, shown in ((10, [5, 5]), (1000, [595, 500])):
        alone = Weights(age=0, fairshare=weight, job_size=0, partition=0)
        assert np.floor(multifactor(factors, alone)).tolist() == shown


def test_age_is_full_after_the_longest_wait():
    """priority_multifactor, configuration example: ``PriorityMaxAge=14-0`` is 2 weeks."""
    assert age([0.0, 7 * DAY_S, 14 * DAY_S, 30 * DAY_S], 14 * DAY_S).tolist() == [0, 0.5, 1, 1]


def test_the_size_factor_favours_large_or_small_jobs():
    """priority_multifactor, Job Size Factor: 1.0 for all of it; with PriorityFavorSmall for one."""
    assert job_size([1, 16, 32], 32).tolist() == [1 / 32, 0.5, 1.0]
    small = job_size([1, 16, 32], 32, favor_small=True)
    assert small[0] == 1.0 and small[0] > small[1] > small[2] > 0


def test_size_relative_to_time():
    """priority_multifactor, SMALL_RELATIVE_TO_TIME: all of it for a minute 1.0, else near 0.0."""
    factor = size_over_time([32, 1], [60.0, 7 * DAY_S], 32)
    assert factor[0] == 1.0 and 0 < factor[1] < 1e-5


def test_partitions_and_qos_are_normalised_to_the_highest():
    """qos, examples: normal has priority 0 and zebra 10."""
    assert normalised([0, 10]).tolist() == [0, 1]
    assert normalised([0, 0]).tolist() == [0, 0]
    assert normalised([10, 20, 30]).tolist() == pytest.approx([1 / 3, 2 / 3, 1])


URGENT, HIGH, NORMAL, LOW, DEBUG = 100, 75, 50, 25, 10
LISTS = Preemption(
    {
        URGENT: frozenset({HIGH, NORMAL, LOW, DEBUG}),
        HIGH: frozenset({NORMAL, LOW, DEBUG}),
        NORMAL: frozenset({LOW, DEBUG}),
    }
)


def test_a_qos_preempts_those_of_its_list():
    """AWS HyperPod's Slurm page: urgent preempts four, high three, normal two."""
    may = {
        qos: {other for other in (URGENT, HIGH, NORMAL, LOW, DEBUG) if LISTS.allows(qos, other, 0)}
        for qos in (URGENT, HIGH, NORMAL, LOW)
    }
    assert may == {
        URGENT: {HIGH, NORMAL, LOW, DEBUG},
        HIGH: {NORMAL, LOW, DEBUG},
        NORMAL: {LOW, DEBUG},
        LOW: set(),
    }


def test_a_list_need_not_follow_the_priority():
    """Slurm's mailing list, May 2011: 90 preempts 50 and 10, 50 does not preempt 10."""
    rules = Preemption({90: frozenset({50, 10})})
    assert rules.allows(90, 50, 0) and rules.allows(90, 10, 0)
    assert not rules.allows(50, 10, 0)


def test_a_job_is_exempt_for_a_while():
    """preempt, PreemptExemptTime: minimum run time before a job is considered."""
    rules = Preemption(exempt_s=600.0)
    assert not rules.allows(1, 0, 599.0)
    assert rules.allows(1, 0, 600.0)
    assert not rules.allows(0, 0, 600.0)


def test_eight_nodes_are_freed_by_one_job():
    """preempt, design: of candidates of 2, 4 and 8 nodes one is stopped for 8, not all three."""
    nodes = {"two": {0, 1}, "four": {2, 3, 4, 5}, "eight": {*range(6, 14)}}

    def chosen(taken: list[str]) -> set[int]:
        """The 8 nodes with the highest numbers that are free then."""
        return set(sorted(set().union(*(nodes[job] for job in taken)))[-8:])

    def fits(taken: list[str]) -> bool:
        return sum(len(nodes[job]) for job in taken) >= 8

    def overlaps(taken: list[str]) -> dict[str, int]:
        return {job: len(chosen(taken) & nodes[job]) for job in taken}

    assert victims(["two", "four", "eight"], fits, overlaps) == ["eight"]
    strictly = victims(["two", "four", "eight"], fits, overlaps, strict=True)
    assert strictly == ["two", "four", "eight"]
    assert victims(["two", "four"], fits, overlaps) == []


def test_a_qos_holds_no_more_than_its_group_limit():
    """qos, examples: zebra has GrpCPUs=24. resource_limits: beyond it new jobs wait."""
    limits = Limits(group={10: 24}, user={})
    assert limits.allow(10, 8, of_qos=16, of_user=16)
    assert not limits.allow(10, 9, of_qos=16, of_user=0)
    assert limits.allow(0, 1000, of_qos=16, of_user=0), "normal has none"


def test_a_user_holds_no_more_than_the_limit_of_its_qos():
    """AWS HyperPod's Slurm page: 64, 48 and 32 GPUs for urgent, high and normal.

    resource_limits, MaxTRESPerUser: what a user can allocate at a given time.
    """
    limits = Limits(group={}, user={URGENT: 64, HIGH: 48, NORMAL: 32})
    assert limits.allow(NORMAL, 8, of_qos=500, of_user=24)
    assert not limits.allow(NORMAL, 8, of_qos=500, of_user=25)
    assert not limits.allow(HIGH, 49, of_qos=0, of_user=0)
    assert limits.allow(LOW, 512, of_qos=0, of_user=0)
