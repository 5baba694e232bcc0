"""Conservative backfill: every waiting gang holds a reservation."""

from __future__ import annotations

from bisect import bisect_left, insort

import numpy as np
from numpy.typing import NDArray

from gpuyard.envs.cluster_view import FREE, ClusterView, Plan

from ..placement import Placement
from ..room import GPUs, Room, startable
from ..routing.router import check_at_least
from ..uplinks import Uplinks
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

    Only gangs up to the last one that fits now are planned: those behind it cannot start.

    Args:
        depth: gangs that are planned; the others wait their turn (Slurm's ``bf_max_job_test``).
    """

    def __init__(self, *, depth: int = 64):
        self.depth = int(check_at_least("conservative-backfill", "depth", depth, 1))

    def plan(self, view: ClusterView) -> Plan | None:
        """Start the first gang whose reservation begins now."""
        rows = [row for row, gang in enumerate(view.pending) if startable(view, gang)]
        room, failed, last = Room(view), set(), -1
        for at, row in enumerate(rows[: self.depth]):
            gang, speeds = view.pending[row], view.speeds[row]
            shape = self._shape(gang, speeds)
            if shape in failed:
                continue
            gpus = self.placement.place(room, gang, speeds)
            if gpus is None:
                failed.add(shape)
            elif at == 0:  # nobody stands before it
                return self.placement.commit(room, gang, gpus)
            else:
                last = at
        profile, left_s = Profile(view, room, self.placement), remaining_s(view.pending)
        for row in rows[: last + 1]:
            gang, speeds = view.pending[row], view.speeds[row]
            found = profile.reserve(gang, speeds, left_s[row], self._shape(gang, speeds))
            if found is not None and found[0] == view.now_s:
                return self.placement.commit(room, gang, found[1])
        return None

    def _shape(self, gang: np.void, speeds: NDArray[np.float64]) -> tuple:
        return (int(gang["gpus"]), *self.placement.shape(gang), speeds.tobytes())


class Profile:
    """Which GPUs are free from each moment to the next, as far as is planned.

    Running gangs only ever end: one time per GPU says it all. Reservations are kept beside it, so
    that a further one costs no copy of what was planned before.

    Attributes:
        times_s: moments at which GPUs become free, the first is now.
        free_s: float64 (D,), from when on each GPU is free of running gangs; infinite: never.
        booked: start, end and GPUs of every reservation.
    """

    def __init__(self, view: ClusterView, room: Room, placement: Placement) -> None:
        self.room, self.placement, self.now_s = room, placement, view.now_s
        end_s = np.maximum(view.running["end_s"], view.now_s + OVERDUE_S)
        until = dict(zip(view.running["id"].tolist(), end_s.tolist(), strict=True))
        owners, at = np.unique(view.gpu_job, return_inverse=True)
        until[FREE] = view.now_s
        self.free_s = np.array([until.get(owner, np.inf) for owner in owners.tolist()])[at]
        self.sorted_s = np.sort(self.free_s)
        self.times_s = sorted({view.now_s, *end_s.tolist()})
        self.booked: list[tuple[float, float, GPUs]] = []
        self._later = room.copy()
        self._later.uplinks = Uplinks(room.cluster)  # circuits are asked for at the start only
        self._earliest: dict[tuple, list[tuple[float, float]]] = {}

    def reserve(
        self, gang: np.void, speeds: NDArray[np.float64], left_s: float, shape: tuple
    ) -> tuple[float, GPUs] | None:
        """Book the earliest start, on the fastest pool that has it.

        A gang of a shape that was asked for before, and which runs no shorter, starts no earlier.

        Args:
            gang: entry of ``ClusterView.pending``.
            speeds: its row of ``speeds``.
            left_s: its run time at speed 1.
            shape: what of it decides where it fits.

        Returns:
            Its time and GPUs; None if the gang never fits.
        """
        known = self._earliest.setdefault(shape, [])
        begin_s = max((start_s for left, start_s in known if left <= left_s), default=self.now_s)
        enough = (
            self.sorted_s[int(gang["gpus"]) - 1] if gang["gpus"] <= len(self.sorted_s) else np.inf
        )
        for start_s in self.times_s[bisect_left(self.times_s, max(begin_s, enough)) :]:
            for pool in np.argsort(-speeds, kind="stable"):
                if speeds[pool] > 0:
                    end_s = start_s + left_s / speeds[pool]
                    only = np.where(np.arange(len(speeds)) == pool, speeds, 0.0)
                    gpus = self.placement.place(self._free(start_s, end_s), gang, only)
                    if gpus is not None:
                        self.booked.append((start_s, end_s, gpus))
                        known.append((left_s, start_s))
                        if end_s not in self.times_s:
                            insort(self.times_s, end_s)
                        return start_s, gpus
        known.append((left_s, np.inf))
        return None

    def _free(self, start_s: float, end_s: float) -> Room:
        """Return what is free from one moment to another."""
        free = self.free_s <= start_s
        for begin_s, until_s, gpus in self.booked:
            if begin_s < end_s and until_s > start_s:
                free[gpus] = False
        room = self._later
        if start_s == self.now_s:
            room = self.room.copy()
        room.free = free.reshape(room.free.shape)
        room.node_free = room.free.sum(axis=1)
        return room
