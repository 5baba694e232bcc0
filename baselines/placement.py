"""Where a gang goes: the half of a scheduler that looks for nodes.

The other half, who comes next, stands in ``gang/``. Any of those orders runs on any placement.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpuyard.envs.cluster_view import ClusterView, Plan

from .room import GPUs, Room, pack, place


class Placement:
    """Finds GPUs for one gang; by default the fullest nodes of the tightest domain.

    Subclasses give :meth:`fit`, and what they need to know besides the free GPUs.
    """

    def begin(self, view: ClusterView) -> None:
        """Take from the view what the rule needs besides free GPUs."""

    def shape(self, gang: np.void) -> tuple:
        """Return what of a gang, besides its GPUs and pools, the rule looks at."""
        return (int(gang["required"]),)

    def fit(self, room: Room, gang: np.void, pool: int) -> GPUs | None:
        """Return the gang's GPUs in one pool in rank order, or None; a ``room.Fit``."""
        return pack(room, gang, pool)

    def started(self, gang: np.void, gpus: GPUs) -> None:
        """Remember that a gang starts now."""

    def commit(self, room: Room, gang: np.void, gpus: GPUs, stop: tuple[int, ...] = ()) -> Plan:
        """Return the plan that stops some gangs and starts one on GPUs that :meth:`place` gave.

        Args:
            room: what is free once those have been stopped.
            gang: entry of ``ClusterView.pending``.
            gpus: its own.
            stop: ids of running gangs.
        """
        return room.start(gang, gpus, stop)

    def place(self, room: Room, gang: np.void, speeds: NDArray[np.float64]) -> GPUs | None:
        """Return the gang's GPUs on the fastest pool that has room for it, or None."""
        return place(room, gang, speeds, self.fit)
