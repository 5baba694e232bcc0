"""Preemptive orders by what is left: SRTF and SRSF."""

from __future__ import annotations

from gpuyard.envs.cluster_view import ClusterView, Plan

from .scheduler import Scheduler
from .starting import next_start, remaining_s


class SRTF(Scheduler):
    """The gangs of the shortest remaining time run; a shorter one stops longer ones.

    Source: shortest remaining time first, as in Tiresias (NSDI 2019), with estimates. Where the
    scenario has no preemption it is the order of the starts only.
    """

    def plan(self, view: ClusterView) -> Plan | None:
        """Start the pending gang with the least left that fits or may displace longer ones."""
        return next_start(
            view, self.placement, remaining_s(view.pending), remaining_s(view.running)
        )


class SRSF(Scheduler):
    """The same by remaining service: GPUs times remaining time.

    Source: shortest remaining service first, the two-dimensional SRTF of Tiresias (NSDI 2019).
    """

    def plan(self, view: ClusterView) -> Plan | None:
        """Start the pending gang with the least GPU time left that fits or may displace others."""
        return next_start(
            view,
            self.placement,
            view.pending["gpus"] * remaining_s(view.pending),
            view.running["gpus"] * remaining_s(view.running),
        )
