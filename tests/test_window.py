"""Which pending gangs can be chosen: by hand, and against a window without a bound."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from numpy.typing import NDArray
from placement_worlds import make, small

from gpuyard import baselines
from gpuyard.baselines.planner import rows_like
from gpuyard.envs.cluster_view import Plan
from gpuyard.envs.scenario import Scenario
from gpuyard.envs.workload.jobs.stream import JobStream

HOLDER = (60, 9000.0, 0.0)  # takes 15 of 16 nodes: 4 GPUs stay free
QUEUE = [  # GPUs, estimate (s), priority
    (32, 100.0, 0.0),  # 0: the oldest
    (8, 5.0, 1.0),  # 1: of the highest priority, if it fitted
    (4, 900.0, 0.1),  # 2: the oldest that fits
    (4, 800.0, 0.2),  # 3: the next one
    (2, 300.0, 0.1),  # 4: the least area, 600 GPU s
    (1, 2000.0, 0.1),  # 5: the smallest
    (4, 200.0, 0.1),  # 6: the shortest, 800 GPU s
    (4, 1500.0, 0.9),  # 7: the highest priority
    (8, 2.0, 0.0),  # 8
    (8, 1.0, 0.0),  # 9: the shortest, if it fitted
]


def queued(window: int, preemption: bool = False) -> tuple[Any, dict[str, NDArray[Any]]]:
    """A world whose first gang runs while the others wait, and what is seen of it then."""
    gpus, run_s, priority = zip(HOLDER, *QUEUE, strict=True)
    stream = JobStream(
        arrival_s=np.arange(len(gpus)) * 1.0,
        gpus=np.array(gpus, np.int32),
        duration_s=np.array(run_s),
        profile=np.zeros(len(gpus), np.int16),
        comm_scale=np.ones(len(gpus), np.float32),
        priority=np.array(priority, np.float32),
        tenant=np.zeros(len(gpus), np.int16),
        pool=np.full(len(gpus), -1, np.int16),
        profiles=("VGG-16",),
        tenants=("all",),
    )
    scheduler = {"window": window, "preemption": preemption, "running_rows": int(preemption)}
    scenario = small("queue", scheduler=scheduler, estimates={"duration": "oracle"})
    jobs = replace(scenario.jobs, source=stream, num_jobs=len(gpus))
    env = make(replace(scenario, jobs=jobs))
    env.ask_planner()
    observation, _ = env.reset(seed=0)
    observation, *_ = env.step(0)  # the first gang starts; from here on everybody waits
    while env.view().now_s < len(QUEUE):
        observation, *_ = env.step(env.action_space.n - 2)
    return env, observation


@pytest.mark.parametrize(
    ("window", "preemption", "chosen"),
    [
        (1, False, [0]),
        (2, False, [0, 2]),
        (3, False, [0, 2, 6]),
        (4, False, [0, 2, 5, 6]),
        (5, False, [0, 2, 4, 5, 6]),
        (6, False, [0, 2, 4, 5, 6, 7]),
        (7, False, [0, 2, 3, 4, 5, 6, 7]),
        (8, False, [0, 1, 2, 3, 4, 5, 6, 7]),  # the others by age
        (9, False, [0, 1, 2, 3, 4, 5, 6, 7, 8]),
        (9, True, [0, 1, 2, 3, 4, 5, 6, 7, 9]),  # room can be made: in rounds, too
        (12, False, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
    ],
)
def test_who_is_in_the_window_by_hand(window: int, preemption: bool, chosen: list[int]) -> None:
    env, observation = queued(window, preemption)
    layout = env.layout
    used = layout.read(observation, "queue", "is_gang") > 0
    estimates = layout.read(observation, "queue", "place.estimate_s")[used]
    assert estimates == pytest.approx([QUEUE[gang][1] for gang in chosen], rel=1e-3)
    starts = layout.read(observation, "candidates", "is_place") > 0
    position = layout.read(observation, "candidates", "place.position")[starts]
    fitting = [gang for gang in chosen if QUEUE[gang][0] <= 4]
    assert sorted(set(np.rint(position).astype(int).tolist())) == fitting


def test_the_lesson_of_a_plan_is_found_wherever_its_gang_stands() -> None:
    env, observation = queued(3)
    view, starts_of_three = env.view(), env.action_space.n - 2
    gpus = np.flatnonzero(view.gpu_job == -1)
    assert view.pending["estimate_s"][6] == pytest.approx(200.0)
    wanted = rows_like(Plan(int(view.pending["id"][6]), gpus), view, observation, env.layout)
    per_gang = starts_of_three // 3
    assert set(np.flatnonzero(wanted) // per_gang) == {2}  # the third place
    absent = rows_like(Plan(int(view.pending["id"][7]), gpus), view, observation, env.layout)
    assert not absent.any()


def starts(name: str, scenario: Scenario) -> tuple[NDArray[np.float64], float]:
    """When each gang starts under a rule, and the most gangs that ever waited."""
    env = gym.make_vec("gpuyard/Placement-v0", num_envs=1, scenario=scenario)
    policy = baselines.make(name)
    policy.reset(scenario, 1)
    observation, _ = env.reset(seed=3)
    done, most = False, 0.0
    while not done:
        waiting = env.unwrapped.layout.read(observation, "cluster", "place.pending")
        most = max(most, float(waiting[0]))
        observation, _, ended, *_ = env.step(policy.act(observation))
        done = bool(ended[0])
    return env.unwrapped.results(0)["jobs"]["start_s"], most


@pytest.mark.parametrize(
    "name",
    [
        *("gang/fifo", "gang/fifo-first-fit", "gang/sjf", "gang/smallest-first"),
        *("gang/smallest-area", "gang/dynamic"),
    ],
)
def test_eight_gangs_are_as_good_as_all(name: str) -> None:
    """A rule of these orders starts the same gangs at the same moments if it sees the queue."""
    scenario = small("crowd", jobs={"load": 4.0, "num_jobs": 80})
    every = replace(scenario, scheduler=replace(scenario.scheduler, window=80))
    bounded, most = starts(name, scenario)
    assert scenario.scheduler.window == 8 and most > 16
    np.testing.assert_array_equal(bounded, starts(name, every)[0])
