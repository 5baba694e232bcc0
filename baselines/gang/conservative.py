"""Conservative backfill: every waiting gang holds a reservation."""

from __future__ import annotations

from bisect import bisect_left

import numpy as np

from gpuyard.envs.cluster_view import ClusterView, Plan

from ..room import GPUs, Room, gang_gpus, pack, startable
from ..routing.router import check_at_least
from .scheduler import Scheduler
from .starting import remaining_s

OVERDUE_S = 1.0  # a gang that runs beyond its estimate is believed to end so soon


class ConservativeBackfill(Scheduler):
    """A gang starts if it delays no gang before it, each of which has a planned start.

    Source: A. Mu'alem and D. Feitelson, "Utilization, predictability, workloads, and user runtime
    estimates in scheduling the IBM SP2 with backfilling", IEEE TPDS 12(6), 2001. The plan is made
    anew, in queue order, at every event, as Slurm's backfill does: early ends move everybody
    forward. So it is no promise: where GPUs are not interchangeable, another choice of nodes for an
    earlier gang can move a later one back.

    Args:
        depth: gangs that are planned; the others wait their turn (Slurm's ``bf_max_job_test``).
    """

    def __init__(self, *, depth: int = 64):
        self.depth = int(check_at_least("conservative-backfill", "depth", depth, 1))

    def plan(self, view: ClusterView) -> Plan | None:
        """Start the first gang whose reservation begins now."""
        rows = [row for row, gang in enumerate(view.pending) if startable(view, gang)]
        rows = rows[: self.depth]
        room = Room(view)
        if all(
            self.placement.place(room, view.pending[row], view.speeds[row]) is None for row in rows
        ):
            return None
        timeline, left_s = Timeline(view), remaining_s(view.pending)
        for row in rows:
            found = timeline.reserve(view.pending[row], view.speeds[row], left_s[row])
            if found is not None and found[0] == view.now_s:
                return room.start(view.pending[row], found[1])
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
