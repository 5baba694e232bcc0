"""The command that says how far rules differ: which metric it takes, and the row by hand."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from gpuyard.envs import scenario as scenarios
from gpuyard.evaluation.rollout import Rollout

FILE = Path(__file__).resolve().parents[1] / "benchmarks" / "scenarios.py"
_spec = importlib.util.spec_from_file_location("benchmark_scenarios", FILE)
assert _spec is not None and _spec.loader is not None
benchmark = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(benchmark)


def test_the_measure_is_what_the_reward_stands_for() -> None:
    assert benchmark.measure(scenarios.load("placement-default")) == "jct_mean_s"
    assert benchmark.measure(scenarios.load("placement-quota")) == "jwt_weighted_s"
    assert benchmark.measure(scenarios.load("routing-default")) == "ttft_mean_s"
    assert benchmark.measure(scenarios.load("rollout-agentic")) == "makespan_s"


def test_every_shipped_scenario_of_one_decision_has_a_measure() -> None:
    worlds = [scenarios.load(name) for name in scenarios.names()]
    alone = [world for world in worlds if len(world.decisions) == 1]
    known = {metric for terms in benchmark.MEASURES.values() for metric in terms.values()}
    assert {benchmark.measure(world) for world in alone} <= known


@pytest.mark.parametrize("reward", [{"in_system": 1.0, "slowdown": 1.0}, {"cost": 1.0}])
def test_a_reward_that_is_no_single_time_is_refused(reward: dict[str, float]) -> None:
    world = scenarios.from_dict({"cluster": {}, "jobs": {"num_jobs": 2}, "reward": reward}, "own")
    with pytest.raises(ValueError, match=r"own: reward = .* must be one of"):
        benchmark.measure(world)


def _played(rule: str, jct_s: list[float]) -> Rollout:
    metrics = {"jct_mean_s": np.array(jct_s)}
    others = {"jwt_mean_s": 3.5, "contention_mean": 1.25, "fragmentation": 0.02}
    metrics |= {key: np.full(2, value) for key, value in others.items()}
    return Rollout(rule, "placement-default", np.arange(2), metrics)


def test_a_row_by_hand() -> None:
    """Differences of 1 and 3 s: a mean of 2, and 12.706 (t, one degree) times 1 on either side.

    The median's 14 s are 25 % waiting, and a fifth of the other 75 % is contention.
    """
    rules = [
        _played("gang/sjf", [10.0, 14.0]),
        _played("gang/fifo", [11.0, 17.0]),
        _played("gang/random", [20.0, 20.0]),
    ]
    assert benchmark.row("placement-default", rules) == [
        *("placement-default", "jct_mean_s", "3"),
        *("gang/sjf 12", "gang/fifo 14", "gang/random 20", "gang/random 20"),
        *("17 ± 106 %", "waiting 25, network 15.0; free in fragments 2.0"),
    ]
