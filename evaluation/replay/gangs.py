"""Records the runs of gangs, the phases of replicas and the outages of nodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gpuyard.envs.scene import GANG_STATES, REPLICA_PHASES

from .episode import ENDS, OUTAGE, PHASE, Run

if TYPE_CHECKING:
    from gpuyard.envs.scene import Scene

PENDING, RUNNING, FINISHED, ABSENT = range(len(GANG_STATES))
SERVING, OFF, QUEUED, STARTING, DRAINING, TURNING = range(len(REPLICA_PHASES))
OPEN, DONE, PREEMPTED, FAILED, RETIRED = range(len(ENDS))


class RunRecorder:
    """Follows gangs from scene to scene.

    Between two scenes at most one gang is placed, for every start is a decision; others may get the
    devices of one that ends. Where the engine decides itself (after ``limits.max_decisions``)
    several may, and of those that have ended again only the last one's devices are known.

    Attributes:
        runs: in order of their start; one that has not ended is open.
        started: gangs that have started since the last scene.
        stopped: gangs that have been preempted since.
    """

    def __init__(self) -> None:
        self.runs: list[Run] = []
        self.started: list[int] = []
        self.stopped: list[int] = []
        self._known = np.zeros(0, np.dtype([("start_s", "f8"), ("ran_s", "f8"), ("run", "i4")]))
        self._preemptions = np.zeros(0, np.int32)

    def look(self, scene: Scene) -> None:
        """Note what has happened since the last scene."""
        gangs = scene.gangs
        self._grow(len(gangs))
        self.stopped = np.flatnonzero(gangs["preemptions"] > self._preemptions).tolist()
        known = self._known
        has_started = np.isfinite(gangs["start_s"]) & (gangs["start_s"] != known["start_s"])
        has_started |= (gangs["state"] == RUNNING) & (known["run"] < 0)  # again at one moment
        has_left = (known["run"] >= 0) & (has_started | (gangs["state"] != RUNNING))
        for gang in np.flatnonzero(has_left).tolist():
            self._end(gang, gangs[gang])
        started = np.flatnonzero(has_started)
        self.started = started[np.argsort(gangs["start_s"][started], kind="stable")].tolist()
        for gang in self.started:
            row = gangs[gang]
            devices = scene.last_start[: row["gpus"] if gang == self.started[-1] else 0]
            if row["state"] == RUNNING:
                devices = _chain(scene, row)
            known[gang] = row["start_s"], known["ran_s"][gang], len(self.runs)
            start_s = float(row["start_s"])
            self.runs.append(Run(gang, start_s, np.nan, OPEN, devices.copy()))
            if row["state"] != RUNNING:
                self._end(gang, row)
        self._preemptions = gangs["preemptions"].copy()

    def end_of_last(self, gang: int) -> float:
        """Return when the last run of a gang that has ended did, seconds."""
        return next(run.end_s for run in reversed(self.runs) if run.gang == gang and run.ended)

    def all(self, end_s: float) -> tuple[Run, ...]:
        """Return all runs; those that are open last to the end of the episode."""
        return tuple(run if run.ended else replace(run, end_s=end_s) for run in self.runs)

    def _end(self, gang: int, row: np.void) -> None:
        at = int(self._known["run"][gang])
        run = self.runs[at]
        if row["state"] == FINISHED:
            end_s, ended = float(row["finish_s"]), DONE
        elif row["state"] == ABSENT:
            end_s, ended = run.start_s + float(row["ran_s"] - self._known["ran_s"][gang]), RETIRED
        else:
            end_s, ended = float(row["stopped_s"]), PREEMPTED if gang in self.stopped else FAILED
        self.runs[at] = replace(run, end_s=end_s, ended=ended)
        self._known["run"][gang], self._known["ran_s"][gang] = -1, row["ran_s"]

    def _grow(self, gangs: int) -> None:
        if gangs == len(self._known):
            return
        fresh = np.zeros(gangs - len(self._known), self._known.dtype)
        fresh["start_s"], fresh["run"] = np.nan, -1
        self._known = np.concatenate([self._known, fresh])
        more = np.zeros(gangs - len(self._preemptions), np.int32)
        self._preemptions = np.concatenate([self._preemptions, more])


def _chain(scene: Scene, row: np.void) -> NDArray[np.int32]:
    """Return the GPUs that a gang holds, in rank order."""
    found = [int(row["first_gpu"])]
    while scene.gpu_next[found[-1]] >= 0:
        found.append(int(scene.gpu_next[found[-1]]))
    return np.array(found, np.int32)


class PhaseRecorder:
    """Follows replicas from scene to scene.

    Args:
        gangs: the gang of every replica, or None if they stand outside any cluster.
        runs: of these gangs, which have looked at each scene before.
    """

    def __init__(self, gangs: Sequence[int] | None, runs: RunRecorder) -> None:
        self._gangs, self._runs = gangs, runs
        self._phase: NDArray[np.int32] | None = None
        self._since_s: list[float] = []
        self._rows: list[tuple[int, int, float, float]] = []

    def look(self, scene: Scene, before_s: float) -> None:
        """Note what has happened since the last scene, whose time was ``before_s``."""
        phase = scene.replicas["phase"]
        if self._phase is None:
            self._phase, self._since_s = phase.copy(), [before_s] * len(phase)
            return
        for replica in np.flatnonzero(phase != self._phase).tolist():
            for then, begin_s in self._way(replica, int(phase[replica]), scene, before_s):
                self._enter(replica, then, begin_s)

    def all(self, end_s: float) -> NDArray[np.void]:
        """Return PHASE records by replica and time, up to the end of the episode."""
        for replica in range(len(self._since_s)):
            self._enter(replica, OFF, end_s)
        return np.array(sorted(self._rows, key=lambda row: (row[0], row[2])), PHASE)

    def _enter(self, replica: int, phase: int, begin_s: float) -> None:
        """Let a phase begin, no earlier than the one before, and note that one unless it is off."""
        assert self._phase is not None
        last, since_s = int(self._phase[replica]), self._since_s[replica]
        begin_s = max(begin_s, since_s)
        if last != OFF and begin_s > since_s:
            self._rows.append((replica, last, since_s, begin_s))
        self._phase[replica], self._since_s[replica] = phase, begin_s

    def _way(self, replica: int, to: int, scene: Scene, before_s: float) -> list[tuple[int, float]]:
        """Return the phases that a replica has entered since the last scene, and when each began.

        What is asked for or taken away is so by the decision at ``before_s``.
        """
        assert self._phase is not None and self._gangs is not None
        last, gang = int(self._phase[replica]), self._gangs[replica]
        row = scene.gangs[gang]
        serving = (SERVING, float(scene.replicas["ready_s"][replica]))
        starting = (STARTING, float(row["start_s"]))
        if to == STARTING:
            return [starting]
        if to == SERVING:
            return [serving] if last == STARTING else [starting, serving]
        if to in (DRAINING, TURNING):
            return [(to, before_s)]
        if to == QUEUED:  # asked for, or it or the one whose devices were to be its own lost them
            if last == OFF:
                return [(QUEUED, before_s)]
            if last == TURNING:
                return [(QUEUED, float(np.nanmax(scene.gangs["stopped_s"])))]
            lost_s = self._runs.end_of_last(gang)
            served = last == STARTING and serving[1] < lost_s
            return [serving] * served + [(QUEUED, lost_s)]
        if last in (QUEUED, STARTING):
            return [(OFF, before_s)]
        ended_s = self._runs.end_of_last(gang)
        return [(DRAINING, before_s)] * (last == SERVING) + [(OFF, ended_s)]


class OutageRecorder:
    """Follows nodes from scene to scene."""

    def __init__(self) -> None:
        self._until_s: NDArray[np.float64] | None = None
        self._next_s = np.inf
        self._since_s: dict[int, float] = {}
        self._rows: list[tuple[int, float, float]] = []

    def look(self, scene: Scene) -> None:
        """Note what has happened since the last scene.

        A node that fails alone between two scenes does so when the next failure was due; of
        several, when they are seen. One that is repaired in between is not seen.
        """
        until_s = scene.repairs_s
        if self._until_s is None:
            self._until_s = np.full(len(until_s), np.inf)
        changed = np.flatnonzero(until_s != self._until_s)
        failed = [node for node in changed.tolist() if np.isfinite(until_s[node])]
        for node in changed.tolist():
            if np.isfinite(self._until_s[node]):
                repaired_s = float(self._until_s[node])
                self._rows.append((node, self._since_s.pop(node), repaired_s))
        for node in failed:
            alone = len(failed) == 1 and self._next_s <= scene.now_s
            self._since_s[node] = self._next_s if alone else scene.now_s
        self._until_s, self._next_s = until_s, scene.next_failure_s

    def all(self, end_s: float) -> NDArray[np.void]:
        """Return OUTAGE records by time; those that last are cut at the end of the episode."""
        rows = self._rows + [(node, begin_s, end_s) for node, begin_s in self._since_s.items()]
        return np.array(sorted(rows, key=lambda row: (row[1], row[0])), OUTAGE)
