"""A batch of worlds in which gangs are placed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..batch import Batch
from ..cluster_view import GANG_VIEW, ClusterView, Plan
from ..engine.gangs.arrays import GangStatic, GangWorld, new_jobs
from ..engine.gangs.records import PENDING, RUNNING
from ..hardware.cluster import Cluster
from ..rendering import cluster as rendering_placement
from ..scenario import Scenario
from ..workload.jobs.source import JobWorkload
from ..workload.jobs.stream import JobStream
from .cluster import build_static, job_profiles

ONE_ITERATION = "vclos/"
"""Profiles of this prefix are normalised: their jobs do one iteration as long as the job."""


class PlacementBatch(Batch):
    """Worlds in which gangs are placed.

    Args:
        scenario: what to simulate.
        num_envs: how many.
    """

    scenario: Scenario
    cluster: Cluster
    jobs: JobWorkload
    world: GangWorld

    def __init__(self, scenario: Scenario, num_envs: int) -> None:
        assert scenario.cluster is not None and scenario.jobs is not None
        self.scenario, self.cluster, self.jobs = scenario, scenario.cluster, scenario.jobs
        static = build_static(scenario, job_profiles(scenario))
        self.world = GangWorld(static, num_envs, self.jobs.num_jobs)
        self._row = {size: row for row, size in enumerate(self.jobs.sizes)}
        self._once = np.array([name.startswith(ONE_ITERATION) for name, _ in self._row])
        self._profiles: list[NDArray[np.int16]] = [np.empty(0, np.int16)] * num_envs
        self.compile()

    def load(self, e: int, rng: np.random.Generator) -> None:
        """Draw the next episode of environment ``e``."""
        stream = self.jobs.sample(rng)
        kinds = self.world.static.kinds
        jobs = new_jobs(len(stream))
        jobs["kind"] = self._rows(stream)
        once = self._once[jobs["kind"]]
        nominal_s = kinds["nominal_s"][jobs["kind"]]
        jobs["iterations"] = np.where(once, 1.0, stream.duration_s / nominal_s)
        jobs["iterations_left"] = jobs["iterations"]
        jobs["scale"] = np.where(once, stream.duration_s / nominal_s, 1.0)
        jobs["comm_scale"] = stream.comm_scale * jobs["scale"]
        jobs["required"], jobs["preferred"] = self.jobs.levels(stream.gpus)
        jobs["estimate_s"] = self.scenario.estimate_durations(rng, stream)
        for name in ("arrival_s", "gpus", "priority", "tenant", "pool"):
            jobs[name] = getattr(stream, name)
        self._profiles[e] = stream.profile
        self.world.load(e, jobs, rng)

    def _rows(self, stream: JobStream) -> NDArray[np.int64]:
        """Return the kind of every job, int64 (J,)."""
        names = self.jobs.profiles
        pairs = stream.profile.astype(np.int64) << 32 | stream.gpus
        distinct, inverse = np.unique(pairs, return_inverse=True)
        found = [self._row[names[pair >> 32], pair & 0xFFFFFFFF] for pair in distinct.tolist()]
        return np.array(found)[inverse]

    def results(self, e: int) -> dict[str, dict[str, NDArray]]:
        """Return the per-job table of environment ``e``'s episode; times NaN if not reached.

        Columns, all of shape (J,): `job`, `arrival_s`, `start_s` (first start), `finish_s`, `gpus`,
        `duration_s` (at speed 1, nothing else on the network), `waited_s`, `ran_s`, `ideal_run_s`
        (run time if no two flows had met), `nodes`, `leafs`, `plan` (-1: the policy's own),
        `preemptions`, `failures`, `priority`, `tenant`, `pool`, `network_wait_s`, `profile`.
        """
        jobs = self.world.arrays["jobs"][e][: int(self.world.envs["num_jobs"][e])]
        kinds = self.world.static.kinds[jobs["kind"]]
        table = {
            name: np.array(jobs[name])
            for name in (
                "arrival_s",
                "finish_s",
                "gpus",
                "waited_s",
                "ran_s",
                "ideal_run_s",
                "nodes",
                "leafs",
                "plan",
                "preemptions",
                "failures",
                "priority",
                "tenant",
                "pool",
                "network_wait_s",
            )
        }
        unfinished = np.isnan(table["finish_s"])
        for name in ("waited_s", "ran_s", "ideal_run_s"):
            table[name][unfinished] = np.nan
        table["job"] = np.arange(len(jobs))
        table["start_s"] = np.array(jobs["first_start_s"])
        table["duration_s"] = jobs["iterations"] * jobs["scale"] * kinds["nominal_s"]
        table["profile"] = self._profiles[e]
        return {"jobs": table}

    def view(self, e: int) -> ClusterView:
        """Return what a planner may read of environment ``e``."""
        state, static = self.world.arrays, self.world.static
        jobs = state["jobs"][e]
        env = state["envs"][e]
        arrived = jobs[: int(env["arrived"])]
        pending = np.flatnonzero(arrived["status"] == PENDING)
        running = np.flatnonzero(arrived["status"] == RUNNING)
        running = running[np.argsort(jobs["start_s"][running], kind="stable")]
        now_s = float(env["now_s"])
        return ClusterView(
            now_s=now_s,
            cluster=self.cluster,
            gpu_job=state["gpu_owner"][e].copy(),
            uplink_job=state["uplink_owner"][e].copy(),
            uplink_flows=state["uplink_users"][e].copy(),
            circuits=state["circuits"][e].copy(),
            link_load=np.minimum(state["load"][e] / static.capacity, 1.0),
            pending=_gang_view(jobs, pending, now_s, static),
            running=_gang_view(jobs, running, now_s, static),
            speeds=_speeds(jobs[pending], static),
            running_speeds=_speeds(jobs[running], static),
            tenant_gpus=state["tenant_gpus"][e].copy(),
            quotas=static.quotas.copy(),
            preemption=self.scenario.scheduler.preemption,
        )

    def propose(self, e: int, plan: Plan) -> None:
        """Hand over a planner's plan for environment ``e``; the last action carries it out."""
        self.world.propose(e, plan)

    def ask_planner(self) -> None:
        """Stop for a decision whenever a gang is pending, not only if a candidate is feasible."""
        self.world.static.config["planner"] = 1

    def render(self, e: int, mode: str) -> Any:
        """Return environment ``e`` as text ("ansi") or as a uint8 image ("rgb_array")."""
        draw = rendering_placement.as_text if mode == "ansi" else rendering_placement.as_image
        return draw(self.view(e), self.scenario.name)


def _speeds(rows: NDArray[np.void], static: GangStatic) -> NDArray[np.float64]:
    """Return the speed of some gangs on each pool, 0 where they cannot or may not run."""
    speeds: NDArray[np.float64] = static.speeds[rows["kind"]]
    here = np.arange(speeds.shape[1])
    allowed = (rows["pool"][:, None] < 0) | (rows["pool"][:, None] == here)
    return speeds * allowed


def _gang_view(
    jobs: NDArray[np.void], ids: NDArray[np.int64], now_s: float, static: GangStatic
) -> NDArray[np.void]:
    """Return what is known of some gangs."""
    rows = jobs[ids]
    view = np.zeros(len(ids), GANG_VIEW)
    is_running = rows["status"] == RUNNING
    run_s = np.where(is_running, now_s - rows["start_s"], 0.0)
    view["id"] = ids
    for name in ("gpus", "arrival_s", "estimate_s", "priority", "tenant", "pool", "required"):
        view[name] = rows[name]
    view["preferred"], view["preemptions"] = rows["preferred"], rows["preemptions"]
    view["executed_s"] = rows["ran_s"] + run_s
    view["start_s"] = np.where(is_running, rows["start_s"], np.nan)
    rest_s = np.maximum(rows["estimate_s"] - rows["ran_s"], 0.0)
    speed = np.where(is_running, np.maximum(rows["speed"], 1e-9), 1.0)
    end_s = np.maximum(rows["start_s"] + rest_s / speed, now_s)
    view["end_s"] = np.where(is_running, end_s, np.nan)
    ideal_s = np.where(is_running, rows["ideal_s"], 1.0)
    view["slowdown"] = np.where(is_running, rows["iteration_s"] / ideal_s, 1.0)
    moved_now = np.where(is_running, rows["start_s"], rows["stopped_s"]) == now_s
    view["blocked"] = moved_now
    return view
