"""Whole episodes of the rules of queues in a world with all that queues have, and failing nodes."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from placement_worlds import small

from gpuyard import baselines
from gpuyard.evaluation.jobs import shares_of_deserved

TENANTS = [
    {"name": "lab", "quota": 56, "deserved": 40, "weight": 2.0},
    {"name": "vision", "parent": "lab", "deserved": 16, "guarantee": 8, "share": 0.2},
    {"name": "speech", "parent": "lab", "deserved": 16, "share": 0.2, "priority": 1.0},
    {"name": "others", "deserved": 16, "share": 0.6},
]
SCENARIO = small(
    "queues",
    jobs={
        "tenants": TENANTS,
        "high_priority_share": 0.3,
        "max_gpus": 16,
        "load": 1.3,
        "max_duration_s": 40_000.0,
    },
    scheduler={"preemption": True, "protected_priority": 1.0},
    faults={"node_mtbf_h": 40.0, "repair_h": 0.5},
)
RULES = (
    "gang/kai-fair-share",
    "gang/kai-fair-share?consolidation=false&min_runtime_s=600",
    "topology/kai",
    "gang/volcano",
    "gang/volcano?queues=proportion",
    "gang/volcano?queues=drf",
    "topology/volcano-soft",
    "gang/kueue",
    "gang/kueue-fair",
    "topology/kueue-tas?order=kueue",
    "gang/slurm-multifactor",
    "gang/srsf",
    "gang/fifo-first-fit",
)


def play(name: str, seed: int = 0) -> tuple[dict, dict]:
    """Return the table of jobs and the shares of the deserved of an episode."""
    envs = gym.make_vec(
        "gpuyard/Placement-v0", num_envs=1, scenario=SCENARIO, autoreset_mode="Disabled"
    )
    policy = baselines.make(name)
    policy.strict = True
    policy.reset(SCENARIO, 1, 0)
    policy.attach(envs)
    observation, _ = envs.reset(seed=seed)
    done = np.zeros(1, bool)
    while not done.any():
        observation, _, done, cut, info = envs.step(policy.act(observation))
        assert not cut.any()
    assert info["invalid_actions"][0] == 0
    tables = envs.unwrapped.results(0)
    names = [SCENARIO.jobs.queues[row].name for row in tables["queues"]["queue"]]
    return tables["jobs"], shares_of_deserved(tables["queues"], names)


@pytest.mark.parametrize("name", RULES)
def test_every_gang_ends_and_protected_ones_are_never_stopped(name):
    jobs, _ = play(name)
    assert np.isfinite(jobs["finish_s"]).all()
    assert (jobs["preemptions"][jobs["priority"] == 1.0] == 0).all()


def test_tenants_get_what_they_deserve_from_rules_that_know_it():
    """Over three episodes KAI and Volcano leave nobody as far below as a rule that is blind."""
    least = {
        name: np.mean([play(name, seed)[1]["deserved_share_min"] for seed in range(3)])
        for name in ("gang/kai-fair-share", "gang/volcano", "gang/fifo-first-fit")
    }
    blind = least.pop("gang/fifo-first-fit")
    assert min(least.values()) > blind + 0.1, (least, blind)
