"""What a gang keeps when a node fails under it: by hand, while others slow it and after a stop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cluster_worlds import fail_at
from placement_worlds import make, small

from gpuyard.envs.cluster_view import Plan
from gpuyard.envs.engine.gangs.records import PENDING

JOBS = """arrival_s,gpus,duration_s,profile
0,8,10000,VGG-16
1,8,10000,VGG-16
"""
FIRST, SECOND = [0, 1, 2, 3, 16, 17, 18, 19], [4, 5, 6, 7, 20, 21, 22, 23]
"""Two nodes under two leaf switches each, whose flows share all uplinks."""


def begun(folder: Path, fidelity: str = "fluid", **scheduler: Any) -> Any:
    """Return a world of two jobs of which the first runs from 0 s on."""
    (folder / "jobs.csv").write_text(JOBS)
    fabric = {"nodes_per_leaf": 4, "spines": 4, "uplinks": 4, "oversubscription": 32.0}
    env = make(
        small(
            cluster={"fabric": fabric},
            jobs={"trace": str(folder / "jobs.csv"), "num_jobs": 0},
            network={"fidelity": fidelity, "routing": "source"},
            faults={"node_mtbf_h": 1e6},
            scheduler=scheduler,
        )
    )
    env.reset(seed=0)
    env._world.state["devices"]["next_failure_s"] = np.inf
    env._world.state["jobs"]["arrival_s"][0, 1] = 1000.0  # whatever the load
    start(env, 0, FIRST)
    return env


def start(env: Any, gang: int, gpus: list[int], preempt: tuple[int, ...] = ()) -> None:
    """Start a gang on these GPUs, or stop others with none."""
    env.propose(Plan(gang, np.array(gpus) if gpus else None, preempt=preempt))
    _, _, _, _, info = env.step(env.action_space.n - 1)
    assert info["invalid_actions"] == 0


def wait(env: Any) -> None:
    """Start nobody."""
    env.step(env.action_space.n - 2)


def left(env: Any) -> tuple[float, float, float]:
    """Return the first job's iterations left and in all, and seconds of one by itself."""
    job, sender = env._world.state["jobs"][0, 0], env._world.state["senders"][0, 0]
    return float(sender["iterations_left"]), float(job["iterations"]), float(sender["alone_s"])


@pytest.mark.parametrize("fidelity", ["fluid", "flow", "occupancy"])
def test_a_failure_costs_the_work_since_the_last_checkpoint(fidelity, tmp_path) -> None:
    """Alone up to its checkpoint at 900 s, slowed from 1000 s on: what it keeps is 900 s alone."""
    env = begun(tmp_path, fidelity, checkpoint_s=900.0)
    fail_at(env, 0, 1700.0, repair_s=10.0)
    start(env, 1, SECOND)
    job, sender = env._world.state["jobs"][0, 0], env._world.state["senders"][0, 0]
    assert job["status"] == PENDING and job["ran_s"] == 1700.0
    rest, iterations, alone_s = left(env)
    assert rest == pytest.approx(iterations - 900.0 / alone_s, rel=1e-9)
    did = job["ideal_run_s"] / sender["ideal_s"]
    assert did < 0.97 * 1700.0 / alone_s, "it was slowed, which an estimate at its pace would show"


@pytest.mark.parametrize("checkpoint_s", [0.0, 900.0])
def test_a_failure_takes_nothing_that_was_done_or_owed_before_the_run(checkpoint_s, tmp_path):
    """A preemption at 1000 s keeps the work and costs more than all of it, which stays owed."""
    rules = {"checkpoint_s": checkpoint_s, "preemption": True, "preempt_s": 15_000.0}
    env = begun(tmp_path, **rules)
    start(env, -1, [], preempt=(0,))
    owed, iterations, alone_s = left(env)
    done = 1000.0 / alone_s
    assert owed == pytest.approx(iterations - done + 1.5 * iterations, rel=1e-9)
    fail_at(env, 0, 1900.0, repair_s=10.0)
    wait(env)
    start(env, 0, FIRST)
    job = env._world.state["jobs"][0, 0]
    while job["failures"] == 0:
        wait(env)
    assert job["start_s"] == 1001.0 and job["stopped_s"] == 1900.0
    assert left(env)[0] == owed
