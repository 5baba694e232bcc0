"""What the numbers of an episode mean: window, classes, directions, and no length of episode."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from placement_worlds import small

from gpuyard.baselines import make
from gpuyard.envs.scenario import load
from gpuyard.evaluation import classes, tables
from gpuyard.evaluation.jobs import busy_gpu_s, job_metrics, slowdown
from gpuyard.evaluation.metrics import METRICS, metric, summarise
from gpuyard.evaluation.report import nothing_to_decide
from gpuyard.evaluation.requests import attained, request_metrics
from gpuyard.evaluation.rollout import Rollout, rollout
from gpuyard.evaluation.window import Window, steady

SLO = SimpleNamespace(ttft_s=0.5, tpot_s=0.1)


def requests(n: int = 101) -> dict[str, np.ndarray]:
    """One request a second; each fifth answers late; 11 tokens at 20 a second."""
    arrival = 1000.0 + np.arange(n)
    first = arrival + np.where(np.arange(n) % 5 == 0, 0.8, 0.2)
    return {
        "arrival_s": arrival,
        "first_token_s": first,
        "finish_s": first + 0.5,
        "prompt_tokens": np.full(n, 100),
        "output_tokens": np.full(n, 11),
        "cached_tokens": np.full(n, 25),
        "priority": (np.arange(n) % 2).astype(np.float32),
    }


def jobs(n: int = 101) -> dict[str, np.ndarray]:
    """A job of 4 GPUs every 10 s, which waits 5 s and runs 20 s, for 20 s alone."""
    arrival = 500.0 + 10.0 * np.arange(n)
    return {
        "arrival_s": arrival,
        "start_s": arrival + 5.0,
        "finish_s": arrival + 25.0,
        "gpus": np.full(n, 4),
        "duration_s": np.full(n, 20.0),
        "waited_s": np.full(n, 5.0),
        "ran_s": np.full(n, 20.0),
        "network_wait_s": np.full(n, 2.0),
        "tenant": np.arange(n) % 2,
        "priority": np.zeros(n),
    }


def test_the_window_is_the_middle_of_arrivals() -> None:
    window = steady(np.array([10.0, 60.0, 110.0]), np.array([20.0, 500.0, 120.0]))
    assert (window.begin_s, window.end_s) == (30.0, 100.0)
    assert window.holds(np.array([29.9, 30.0, 100.0, 100.1])).tolist() == [False, True, True, False]
    spans = window.overlap_s(np.array([0.0, 50.0, 90.0, 0.0]), np.array([40.0, 60.0, 500.0, 9.0]))
    np.testing.assert_allclose(spans, [10.0, 10.0, 10.0, 0.0])


def test_without_a_middle_the_window_is_the_episode() -> None:
    assert steady(np.array([5.0, 5.0]), np.array([9.0, np.nan])) == Window(5.0, 9.0)
    assert steady(np.array([5.0, 15.0]), np.array([12.0, 30.0])) == Window(5.0, 30.0)
    assert steady(np.array([5.0]), np.array([np.nan])).per_s(3.0) == 0.0


def test_requests_by_hand() -> None:
    metrics = request_metrics(requests(), SLO)
    # arrivals 1020 to 1090, 71 of them in 70 s; 15 of them (20, 25, ..., 90) late
    assert metrics["slo_attainment"] == pytest.approx(56 / 71)
    assert metrics["goodput"] == pytest.approx(56 / 70)
    assert metrics["output_tokens_per_s"] == pytest.approx(71 * 11 / 70)
    assert metrics["ttft_mean_s"] == pytest.approx((15 * 0.8 + 56 * 0.2) / 71)
    assert metrics["tpot_p99_s"] == pytest.approx(0.05)
    assert metrics["prefix_hit_rate"] == pytest.approx(0.25)
    # priority 0: 36 requests, 8 of them late; priority 1: 35, 7 late
    assert metrics["slo_attainment/priority=0"] == pytest.approx(28 / 36)
    assert metrics["ttft_mean_s/priority=1"] == pytest.approx((7 * 0.8 + 28 * 0.2) / 35)
    weighted = ((8 + 2 * 7) * 0.8 + (28 + 2 * 28) * 0.2) / (36 + 2 * 35)
    assert metrics["ttft_weighted_s"] == pytest.approx(weighted)


def test_unfinished_requests_miss_their_objectives() -> None:
    table = requests()
    table["finish_s"][50:60] = np.nan
    metrics = request_metrics(table, SLO)
    assert metrics["slo_attainment"] == pytest.approx((56 - 8) / 71)
    assert metrics["output_tokens_per_s"] == pytest.approx(61 * 11 / 70)
    table["finish_s"][:] = np.nan
    assert request_metrics(table, SLO) == {}


def test_a_request_needs_both_objectives() -> None:
    table = {
        "arrival_s": np.zeros(5),
        "first_token_s": np.array([0.5, 0.6, 0.1, 0.1, 0.6]),
        "finish_s": np.array([1.5, 1.6, 1.2, 0.1, 0.6]),
        "output_tokens": np.array([11, 11, 11, 1, 1]),
    }
    assert attained(table, SLO).tolist() == [True, False, False, True, False]


def test_jobs_by_hand() -> None:
    metrics = job_metrics(jobs(), 16, ("a", "b"))
    assert metrics["jct_mean_s"] == 25.0 and metrics["jwt_mean_s"] == 5.0
    assert metrics["slowdown_mean"] == pytest.approx(25 / 20)
    assert metrics["makespan_s"] == 1000.0 + 25.0  # of the whole episode, from 500 on
    assert metrics["utilisation"] == pytest.approx(2 * 4 / 16)  # two of them at any time
    assert metrics["gpu_share/tenant=a"] == pytest.approx(0.5, abs=0.01)
    assert metrics["jct_mean_s/tenant=b"] == 25.0
    assert "jct_weighted_s" not in metrics  # all of one priority


def test_jobs_by_priority() -> None:
    table = jobs()
    urgent = np.arange(101) % 2 == 0
    table["priority"] = urgent.astype(np.float64)
    table["finish_s"] = table["finish_s"] - np.where(urgent, 5.0, 0.0)
    table["start_s"] = table["start_s"] - np.where(urgent, 5.0, 0.0)
    table["waited_s"] = np.where(urgent, 0.0, 5.0)
    metrics = job_metrics(table, 16)
    assert metrics["jct_mean_s/priority=1"] == 20.0 and metrics["jct_mean_s/priority=0"] == 25.0
    assert metrics["jct_weighted_s"] == pytest.approx((36 * 2 * 20 + 35 * 25) / (36 * 2 + 35))


def test_what_a_job_ran_counts_where_it_lies() -> None:
    table = jobs(2)
    table["finish_s"] = np.array([540.0, np.nan])  # 20 s of running in the 35 s after 505
    busy = busy_gpu_s(table, Window(505.0, 522.5))
    np.testing.assert_allclose(busy, [4 * 20 / 2, 0.0])


def test_bounded_slowdown_begins_at_ten_seconds() -> None:
    table = {"arrival_s": np.zeros(1), "finish_s": np.array([60.0]), "duration_s": np.array([20.0])}
    assert slowdown(table).tolist() == [3.0]


def test_percentiles_by_hand() -> None:
    found = summarise("ttft", np.array([1.0, 2.0, 3.0, 4.0]), (50, 90, 99), "_s")
    assert found["ttft_mean_s"] == found["ttft_p50_s"] == 2.5
    assert found["ttft_p90_s"] == pytest.approx(3.7)  # linear: 3 + 0.7
    assert found["ttft_p99_s"] == pytest.approx(3.97)


def test_one_class_and_too_many_are_not_told_apart() -> None:
    values = np.arange(20.0)
    assert classes.means({"x": values}, "tenant", ["a"] * 20) == {}
    assert classes.means({"x": values}, "tenant", [str(i) for i in range(20)]) == {}
    found = classes.means({"x": values}, "tenant", ["b"] * 10 + ["a"] * 10)
    assert found == {"x/tenant=a": 14.5, "x/tenant=b": 4.5}


# Which way is better -----------------------------------------------------------------------------


@pytest.mark.parametrize("key", [m.key for m in METRICS])
def test_the_direction_of_every_metric(key: str) -> None:
    """Times, waits and unfairness are bad; rates, shares and rewards are good."""
    good = {
        *("reward", "slo_attainment", "goodput", "output_tokens_per_s", "prefix_hit_rate"),
        *("jain_jobs", "utilisation", "deserved_share", "deserved_share_min", "tokens_per_gpu_s"),
    }
    neither = key in ("gpu_share", "starts", "jain_clients")
    assert metric(key).higher_is_better is (None if neither else key in good)


def test_a_faster_world_is_better_in_every_metric() -> None:
    slow = requests() | {"first_token_s": requests()["first_token_s"] + 0.2}
    slow["finish_s"] = slow["first_token_s"] + 1.1
    better, worse = request_metrics(requests(), SLO), request_metrics(slow, SLO)
    _all_gain(better, worse)
    slow_jobs = jobs() | {"start_s": jobs()["start_s"] + 10.0, "waited_s": np.full(101, 20.0)}
    slow_jobs["finish_s"], slow_jobs["ran_s"] = jobs()["finish_s"] + 20.0, np.full(101, 25.0)
    slow_jobs["network_wait_s"] = np.full(101, 10.0)
    better, worse = job_metrics(jobs(), 16), job_metrics(slow_jobs, 16)
    _all_gain({k: v for k, v in better.items() if k != "utilisation"}, worse)


def _all_gain(better: dict[str, float], worse: dict[str, float]) -> None:
    for key, value in better.items():
        shown = metric(key)
        if shown.higher_is_better is not None:
            gain = value - worse[key] if shown.higher_is_better else worse[key] - value
            assert gain >= 0, key


def test_comparison_refuses_what_has_no_direction() -> None:
    pair = [
        Rollout(n, "w", np.arange(2), {"reward": np.zeros(2), "odd": np.zeros(2)}) for n in "ab"
    ]
    with pytest.raises(ValueError, match="no better direction"):
        tables.comparison(pair, "a", ["odd"])


def test_tables_by_class_and_with_gaps() -> None:
    numbers = {"reward": np.array([-1.0, -1.0]), "jct_mean_s/priority=1": np.array([5.0, np.nan])}
    table = tables.by_class([Rollout("p", "w", np.arange(2), numbers)])
    assert table == [["policy", "class", "JCT s"], ["p", "priority=1", "5"]]
    plain = Rollout("p", "w", np.arange(2), {"reward": np.zeros(2)})
    assert len(tables.by_class([plain])) == 1
    assert tables.summary([plain], ["reward", "goodput"])[1][2] == "-"


def test_a_world_without_a_decision_is_told() -> None:
    def group(*rewards: float) -> list[Rollout]:
        used = np.array([0.07, 0.05])
        return [
            Rollout("p", "idle", np.arange(2), {"reward": np.full(2, r), "utilisation": used})
            for r in rewards
        ]

    assert "idle: all 2 policies" in nothing_to_decide(group(-100.0, -100.01))
    assert "6%" in nothing_to_decide(group(-100.0, -100.01))
    assert not nothing_to_decide(group(-100.0, -110.0)) and not nothing_to_decide(group(-100.0))


# A metric does not move with the length of an episode ------------------------------------------


def test_rates_of_requests_do_not_move_with_their_number() -> None:
    world = load("routing-default")
    assert world.workload is not None
    found = {}
    for n, seeds in ((128, 24), (512, 8), (2048, 3)):
        longer = replace(world, workload=replace(world.workload, num_requests=n))
        policy = make("routing/capability-aware")
        found[n] = rollout("p", policy, longer, np.arange(seeds)).metrics
    for key in ("goodput", "output_tokens_per_s", "slo_attainment"):
        means = {n: metrics[key].mean() for n, metrics in found.items()}
        noise = 3 * max(m[key].std() / np.sqrt(len(m[key])) for m in found.values())
        assert max(means.values()) - min(means.values()) < max(noise, 0.05 * means[2048]), key


def test_utilisation_does_not_move_with_the_number_of_jobs() -> None:
    found = {}
    for n, seeds in ((128, 24), (512, 8), (2048, 3)):
        world = small(jobs={"num_jobs": n, "load": 0.6, "max_duration_s": 600.0, "max_gpus": 8})
        found[n] = rollout("p", make("gang/fifo"), world, np.arange(seeds)).metrics["utilisation"]
    means = [values.mean() for values in found.values()]
    noise = 3 * max(values.std() / np.sqrt(len(values)) for values in found.values())
    assert max(means) - min(means) < noise, means
