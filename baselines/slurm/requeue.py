"""Which jobs are requeued so that another starts, and where it goes then."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpuyard.envs.cluster_view import ClusterView, Plan

from ..placement import Placement
from ..room import GPUs, Room
from .qos import victims


class Requeue:
    """The search for one job.

    Args:
        view: the cluster.
        room: what is free as it is.
        placement: where gangs go.
        gang: entry of ``ClusterView.pending``.
        speeds: its row of ``ClusterView.speeds``.
    """

    def __init__(
        self,
        view: ClusterView,
        room: Room,
        placement: Placement,
        gang: np.void,
        speeds: NDArray[np.float64],
    ) -> None:
        self.view, self.room, self.placement = view, room, placement
        self.gang, self.speeds = gang, speeds

    def plan(self, candidates: list[int], strict: bool) -> Plan | None:
        """Return the plan that requeues some of the candidates and starts the job, or None.

        Args:
            candidates: ids of running gangs, in the order in which they give way.
            strict: see :func:`.qos.victims`.
        """
        taken = victims(
            candidates, lambda taken: self.place(taken) is not None, self.overlaps, strict
        )
        gpus = self.place(taken) if taken else None
        if gpus is None:
            return None
        owners = set(self.view.gpu_job[gpus].tolist())
        stop = [name for name in taken if name in owners]
        freed = self.room.without(self.view, stop)
        if not freed.joins(gpus):
            return None  # circuits of gangs that run on are not to be had
        return self.placement.commit(freed, self.gang, gpus, tuple(sorted(stop)))

    def place(self, taken: list[int]) -> GPUs | None:
        """Return where the job goes without some gangs, or None."""
        room = self.room.without(self.view, taken)
        if room.node_free.sum() < self.gang["gpus"]:
            return None
        return self.placement.place(room, self.gang, self.speeds)

    def overlaps(self, taken: list[int]) -> dict[int, int]:
        """Return how many nodes each gang has of those that the job gets without them."""
        gpus, slots = self.place(taken), self.room.free.shape[1]
        assert gpus is not None, "asked once it fits"
        chosen = np.zeros(len(self.room.free), bool)
        chosen[gpus // slots] = True
        held = self.view.gpu_job.reshape(chosen.size, slots)[chosen]
        return {name: int((held == name).any(axis=1).sum()) for name in taken}
