"""The order of decisions where much is due at one moment, as ``envs/engine/clock.py`` says it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cluster_worlds import make, service

from gpuyard.envs.observation import DECISIONS, kind_column
from gpuyard.envs.scenario import from_dict

REQUESTS = "arrival_s,prompt_tokens,output_tokens\n"


def world(folder: Path, chat: dict[str, Any], requests: str, jobs: str, **tables: Any) -> Any:
    """Return six nodes of four GPUs, a service, and lists of what comes."""
    (folder / "requests.csv").write_text(REQUESTS + requests)
    (folder / "jobs.csv").write_text(f"arrival_s,gpus,duration_s\n{jobs}")
    table = {
        "cluster": {
            "pools": [{"gpu": "A100-80", "nodes": 6, "gpus_per_node": 4}],
            "fabric": {"nodes_per_leaf": 3},
        },
        "jobs": {"trace": "jobs.csv", "num_jobs": 0},
        "deployments": [service("chat", **chat, workload={"trace": "requests.csv"})],
        **tables,
    }
    return make(from_dict(table, "one-moment", folder))


def decided_at(env: Any, moment_s: float) -> list[str]:
    """Return the decisions of a moment; replicas are added, and all gangs that can start.

    A request is named by the second in which it arrived; a run of others of a kind comes once.
    """
    names = env.scenario.layout.names("cluster")
    flags = {kind: kind_column(kind) for kind in DECISIONS}
    places = {kind: names.index(flag) for kind, flag in flags.items() if flag in names}
    observation, info = env.reset(seed=0)
    found: list[str] = []
    while info["time_s"] <= moment_s:
        said = kind = next(kind for kind, at in places.items() if observation["cluster"][at])
        if kind == "route":
            state = env._world.state
            request = state["requests"][0][int(state["router"][0]["deciding"])]
            said = f"route {request['arrival_s']:g}"
        if info["time_s"] == moment_s and (kind == "route" or found[-1:] != [kind]):
            found.append(said)
        feasible = np.flatnonzero(env.action_masks())
        adds = kind == "scale" and 1 in feasible
        observation, _, terminated, truncated, info = env.step(1 if adds else int(feasible[0]))
        assert not (terminated or truncated)
    return found


def test_one_request_comes_before_all_else_and_the_others_after(tmp_path: Path) -> None:
    """Three requests and two jobs arrive as rounds of moves and of scaling begin."""
    before = "".join(f"{6 + i / 10},200,1500\n" for i in range(6))  # so that some could move
    env = world(
        tmp_path,
        {"min": 2, "initial": 2, "max": 4},
        requests=before + "16,100,20\n" * 3,
        jobs="0,1,2\n16,1,30\n16,2,30\n",
        scaler={"interval_s": 16.0},
        migration={"interval_s": 16.0},
    )
    added = ["scale", "place"] * 2  # what a decision lets queue is placed before the next one
    wanted = ["route 16", "migrate", "place", *added, "scale", "route 16", "route 16"]
    assert decided_at(env, 16.0) == wanted


@pytest.mark.parametrize(
    ("arrivals", "wanted"),
    [
        ("", ["scale", "route 1", "route 2", "route 5"]),
        ("8,100,10\n", ["route 1", "scale", "route 2", "route 5", "route 8"]),
    ],
)
def test_who_waits_for_a_replica_is_routed_in_later_passes(
    tmp_path: Path, arrivals: str, wanted: list[str]
) -> None:
    """Replicas added at 4 s come up at 8 s, when three requests wait, as a round begins.

    A pass at 8 s takes up a request only if one was due before: one that arrives then. The first
    that waits goes in its place, and it goes last.
    """
    env = world(
        tmp_path,
        {"min": 0, "initial": 0, "max": 4, "startup_s": 4.0},
        requests="1,200,150\n2,200,150\n5,200,100\n" + arrivals,
        jobs="0,1,2\n",
        scaler={"interval_s": 4.0},
    )
    assert decided_at(env, 8.0) == wanted
