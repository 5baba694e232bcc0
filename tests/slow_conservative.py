"""Conservative backfill as its definition says: the plan of all gangs anew at every question."""

from __future__ import annotations

from bisect import bisect_left

import numpy as np

from gpuyard.baselines.gang.starting import remaining_s
from gpuyard.baselines.planner import Planner
from gpuyard.baselines.room import GPUs, Room, gang_gpus, pack, place, startable
from gpuyard.envs.cluster_view import ClusterView, Plan

OVERDUE_S = 1.0  # a gang that runs beyond its estimate is believed to end so soon


class SlowConservative(Planner):
    """A gang starts if it delays no gang before it; no memory, no short cut."""

    def __init__(self, depth: int = 64):
        self.depth = depth

    def plan(self, view: ClusterView) -> Plan | None:
        """Start the first gang whose reservation begins now."""
        rows = [row for row, gang in enumerate(view.pending) if startable(view, gang)]
        rows = rows[: self.depth]
        room = Room(view)
        if all(place(room, view.pending[row], view.speeds[row]) is None for row in rows):
            return None
        timeline, left_s = Timeline(view), remaining_s(view.pending)
        for row in rows:
            found = timeline.reserve(view.pending[row], view.speeds[row], left_s[row])
            if found is not None and found[0] == view.now_s:
                return Plan(int(view.pending[row]["id"]), found[1])
        return None


class Timeline:
    """Which GPUs are free from each moment to the next, as far as is planned.

    Attributes:
        times_s: moments, the first is now.
        rooms: what is free from each of them until the next; the last holds for ever.
    """

    def __init__(self, view: ClusterView) -> None:
        self.times_s, self.rooms = [view.now_s], [Room(view)]
        end_s = np.maximum(view.running["end_s"], view.now_s + OVERDUE_S)
        for row in np.argsort(end_s, kind="stable"):
            at = self._split(float(end_s[row]))
            for room in self.rooms[at:]:
                room.release(gang_gpus(view, view.running[row]["id"]))

    def reserve(
        self, gang: np.void, speeds: np.ndarray, left_s: float
    ) -> tuple[float, GPUs] | None:
        """Book the earliest start, on the fastest pool that has it.

        Returns:
            Its time and GPUs; None if the gang never fits.
        """
        for at, start_s in enumerate(self.times_s):
            for pool in np.argsort(-speeds, kind="stable"):
                if speeds[pool] > 0:
                    end_s = start_s + left_s / speeds[pool]
                    gpus = pack(self._free_throughout(at, end_s), gang, int(pool))
                    if gpus is not None:
                        for room in self.rooms[at : self._split(end_s)]:
                            room.take(gpus)
                        return start_s, gpus
        return None

    def _free_throughout(self, at: int, end_s: float) -> Room:
        room = self.rooms[at].copy()
        for other in self.rooms[at + 1 : bisect_left(self.times_s, end_s)]:
            room.limit(other)
        return room

    def _split(self, time_s: float) -> int:
        at = bisect_left(self.times_s, time_s)
        if at == len(self.times_s) or self.times_s[at] != time_s:
            self.times_s.insert(at, time_s)
            self.rooms.insert(at, self.rooms[at - 1].copy())
        return at
