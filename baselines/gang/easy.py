"""EASY backfill: the blocked head of the queue holds a reservation, others may pass it by."""

from __future__ import annotations

import numpy as np

from gpuyard.envs.cluster_view import ClusterView, Plan

from ..placement import Placement
from ..room import GPUs, Room, pool_of, startable
from .scheduler import Scheduler
from .starting import remaining_s


class EasyBackfill(Scheduler):
    """Queue order; while the head does not fit, later gangs start if they do not delay it.

    Source: D. Lifka, "The ANL/IBM SP scheduling system", JSSPP 1995; A. Mu'alem and D. Feitelson,
    IEEE TPDS 12(6), 2001. The shadow time is when the head fits as running gangs end by their
    estimates. A later gang that fits now may start if it ends by then, or if the head still fits
    then beside it (the rule of extra nodes). On nodes and domains a count of GPUs would promise
    too much, so both are asked of the placement itself on the projected cluster.

    Gangs beyond their tenant's quota stand aside and hold no reservation.
    """

    def plan(self, view: ClusterView) -> Plan | None:
        """Start the head, or else the first gang that may pass it by."""
        room = Room(view)
        queue = [row for row, gang in enumerate(view.pending) if startable(view, gang)]
        if not queue:
            return None
        head = view.pending[queue[0]]
        gpus = self.placement.place(room, head, view.speeds[queue[0]])
        if gpus is not None:
            return self.placement.commit(room, head, gpus)
        shadow = Shadow(view, room, queue[0], self.placement)
        for row in queue[1:]:
            gpus = shadow.passing(row)
            if gpus is not None:
                return self.placement.commit(room, view.pending[row], gpus)
        return None


class Shadow:
    """The reservation of a gang that does not fit now.

    Attributes:
        time_s: when it fits; infinite if it would not even in a cluster without running gangs
            (its nodes have failed).
        reserved: GPUs that it would take then.
    """

    def __init__(
        self, view: ClusterView, room: Room, head: int, placement: Placement = Scheduler.placement
    ) -> None:
        self.view, self.head, self.placement = view, head, placement
        self.left_s = remaining_s(view.pending)
        self.time_s, self.reserved = np.inf, np.zeros(0, np.int64)
        self.projected = room.copy()
        end_s = np.maximum(view.running["end_s"], view.now_s)  # overdue: at any moment
        for time_s in np.unique(end_s):
            for gang in view.running["id"][end_s == time_s]:
                self.projected.vacate(view, gang)
            reserved = self._head_in(self.projected)
            if reserved is not None:
                self.time_s, self.reserved = float(time_s), reserved
                break
        beside = room.copy()
        beside.take(self.reserved[room.free.reshape(-1)[self.reserved]])
        self.rooms = (room, beside)

    def passing(self, row: int) -> GPUs | None:
        """Return GPUs on which a later gang can start without delaying the head, or None."""
        gang, speeds = self.view.pending[row], self.view.speeds[row]
        for room in self.rooms:
            gpus = self.placement.place(room, gang, speeds)
            if gpus is None:
                return None
            run_s = self.left_s[row] / speeds[pool_of(self.view, gpus)]
            if self.view.now_s + run_s <= self.time_s or self._head_fits_beside(gpus):
                return gpus
        return None

    def _head_fits_beside(self, gpus: GPUs) -> bool:
        trial = self.projected.copy()
        trial.book(gpus)
        return self._head_in(trial) is not None

    def _head_in(self, room: Room) -> GPUs | None:
        return self.placement.place(room, self.view.pending[self.head], self.view.speeds[self.head])
