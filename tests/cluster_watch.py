"""What the compiled engine decides about devices in small worlds, for the naive reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from reference_fleet import Change
from reference_network import Gang, Uplinks

from gpuyard.envs.engine.core.owners import FREE
from gpuyard.envs.engine.gangs.records import RUNNING
from gpuyard.envs.world import World

LATE_S = 1e6  # when the one job of worlds without gangs arrives, which is after their end


class Watch:
    """Notes which gangs get and lose devices, decision by decision."""

    def __init__(self, world: World) -> None:
        self.world, self.changes, self.gangs = world, list[Change](), list[Gang]()
        self.specs = world.shared["replica_specs"]
        jobs = world.state["jobs"][0]
        self.failures, self.starts = np.zeros(len(jobs), int), np.full(len(jobs), -1.0)
        self.preemptions = np.zeros(len(jobs), int)
        self.running = np.zeros(len(jobs), bool)  # at the last look: one may start twice at a time
        self.reserved: Uplinks = frozenset()  # at the last look, before who has started since
        self.run: dict[int, int] = {}  # the last one of each gang
        self.places: dict[int, tuple[tuple[int, ...], dict[int, int]]] = {}  # GPUs and uplinks
        self.begun_s: list[dict[float, float]] = []  # iterations of each run, by how many are left

    def look(self, decisions: int) -> None:
        """Note what has changed since the last look, after so many decisions about replicas."""
        for j, job in enumerate(self.world.state["jobs"][0]):
            replicas = tuple(int(r) for r in np.flatnonzero(self.specs["gang"] == j))
            if job["failures"] > self.failures[j] and replicas:
                self.changes.append(Change(float(job["stopped_s"]), replicas, ()))
            if job["preemptions"] > self.preemptions[j] and replicas:
                self.changes.append(Change(float(job["stopped_s"]), replicas, (), preempted=True))
            runs = bool(job["status"] == RUNNING)
            starts = job["start_s"] > self.starts[j] or (runs and not self.running[j])
            if not replicas and job["start_s"] < LATE_S:
                self.note_run(j, job, starts)
            elif starts and replicas:
                gpus = self.gpus(j)
                first = tuple(gpus[int(self.specs[r]["rank"])] if gpus else 0 for r in replicas)
                uplinks = self.uplinks(gpus)
                change = Change(float(job["start_s"]), replicas, first, uplinks, decisions)
                self.changes.append(change)
            sender = self.world.state["senders"][0, j]
            if runs and job["service"] < 0 and sender["step_count"] > 0:  # within a node: uncounted
                left = float(sender["iterations_left"])
                self.begun_s[self.run[j]][left] = float(sender["begun_s"])
            self.failures[j], self.preemptions[j] = job["failures"], job["preemptions"]
            self.starts[j], self.running[j] = np.fmax(self.starts[j], job["start_s"]), runs
        owners = self.world.state["uplink_owner"][0]
        self.reserved = frozenset(map(tuple, np.argwhere(owners != FREE).tolist()))

    def note_run(self, j: int, job: Any, starts: bool) -> None:
        """Note that a run of a job was cut short or has begun, or both, since the last look."""
        fails = bool(job["failures"] > self.failures[j])
        stops = fails or job["preemptions"] > self.preemptions[j]
        run = len(self.gangs)
        if starts:
            self.gangs.append(self.gang(j, job))
            self.begun_s.append({})
        if stops:
            is_new = starts and job["stopped_s"] > job["start_s"]
            stopped = self.gangs[run if is_new else self.run[j]]
            stopped.stop_s, stopped.fails = float(job["stopped_s"]), fails
        if starts:
            self.run[j] = run

    def has_missed(self) -> bool:
        """Tell whether a job has begun a run since the last look that is over."""
        jobs, senders = self.world.state["jobs"][0], self.world.state["senders"][0]
        gone = senders["first_gpu"][: len(jobs)] < 0
        return bool((gone & (jobs["service"] < 0) & (jobs["start_s"] > self.starts)).any())

    def see_places(self) -> None:
        """Note where jobs run, for those that will be gone at the next look."""
        jobs = self.world.state["jobs"][0]
        for j in np.flatnonzero((jobs["service"] < 0) & (jobs["status"] == RUNNING)).tolist():
            gpus = self.gpus(j)
            self.places[j] = gpus, self.uplinks(gpus)

    def gpus(self, j: int) -> tuple[int, ...]:
        """Return the GPUs of a gang in rank order; none if it has lost them."""
        found, gpu = [], int(self.world.state["senders"][0, j]["first_gpu"])
        while gpu >= 0:
            found.append(gpu)
            gpu = int(self.world.state["gpu_next"][0, gpu])
        return tuple(found)

    def uplinks(self, gpus: Sequence[int]) -> dict[int, int]:
        """Return the uplink of each GPU that has reserved one."""
        found = {gpu: int(self.world.state["gpu_uplink"][0, gpu]) for gpu in gpus}
        return {gpu: uplink for gpu, uplink in found.items() if uplink >= 0}

    def gang(self, j: int, job: Any) -> Gang:
        """Return a job that has just started."""
        shared, gpus = self.world.shared, self.gpus(j)
        gpus, uplinks = (gpus, self.uplinks(gpus)) if gpus else self.places[j]
        pattern = shared["patterns"][job["kind"]]
        first = int(pattern["first_phase"])
        phases = tuple(
            (*(int(phase[name]) for name in ("ranks", "stride", "shift", "mode")),
             float(phase["bytes"] * job["comm_scale"]))
            for phase in shared["phases"][first : first + pattern["num_phases"]]
        )  # fmt: skip
        rules = shared["gang_rules"][0]
        return Gang(
            *(j, float(job["start_s"]), gpus, float(job["iterations"])),
            *(float(pattern["compute_s"]), float(pattern["hidden_s"]), phases),
            *(uplinks, self.reserved),
            before=self.run.get(j),
            checkpoint_s=float(rules["checkpoint_s"]),
            owes=float(rules["preempt_s"] * job["iterations"] / job["duration_s"]),
        )
