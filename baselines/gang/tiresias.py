"""Tiresias: least attained service in two dimensions, discretised."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from gpuyard.envs.cluster_view import ClusterView, Plan

from ..routing.router import check_at_least
from .remembering import Remembering
from .starting import next_start

Promotions = dict[int, tuple[float, float]]  # gang: seconds executed and waited by then


class Tiresias(Remembering[Promotions]):
    """Gangs sink through queues as they attain GPU time; upper queues stop lower ones.

    Source: J. Gu et al., "Tiresias: a GPU cluster manager for distributed deep learning", NSDI
    2019, discretised two-dimensional LAS, which needs no estimates. Attained service is GPUs times
    run time. A gang is in queue i when its service lies between threshold i - 1 and threshold i.
    Queues are served from the top, inside a queue by arrival (whatever fits), and a gang never
    stops one of its own queue. A gang that has waited ``starvation`` times its run time since its
    last promotion returns to the top with its counters cleared. The thresholds are the first two of
    the authors' simulator (3,250, 7,200 and 18,000 GPU seconds; its three queues use two); there
    the guard is off, and its factor here is ours.

    Queues are looked at when something happens, not by a timer of their own. Packing stands in for
    the profiled rule that keeps only skewed models together.

    Args:
        thresholds_gpu_s: growing; one more queue than thresholds.
        starvation: factor of the guard; 0: no guard.
    """

    def __init__(
        self, *, thresholds_gpu_s: Sequence[float] = (3_250.0, 7_200.0), starvation: float = 8.0
    ):
        self.thresholds = np.asarray(thresholds_gpu_s, float)
        if any(high <= low for low, high in pairwise((0.0, *thresholds_gpu_s))):
            raise ValueError(
                f"tiresias: thresholds_gpu_s = {thresholds_gpu_s!r} must grow and be above 0"
            )
        self.starvation = check_at_least("tiresias", "starvation", starvation, 0.0)

    def fresh(self) -> Promotions:
        """Return no promotions."""
        return {}

    def plan_for(self, index: int, view: ClusterView) -> Plan | None:
        """Start the first gang of the highest queue that fits or may displace lower queues."""
        promotions = self.memories[index]
        if self.starvation:
            self._promote(view, promotions)
        return next_start(
            view,
            self.placement,
            self.queues(view.pending, promotions),
            self.queues(view.running, promotions),
        )

    def queues(self, gangs: NDArray[np.void], promotions: Promotions) -> NDArray[np.float64]:
        """Return the queue of every gang, 0 the highest."""
        before = np.array([promotions.get(int(gang), (0.0, 0.0))[0] for gang in gangs["id"]])
        service = gangs["gpus"] * (gangs["executed_s"] - before)
        return np.searchsorted(self.thresholds, service, side="right").astype(float)

    def _promote(self, view: ClusterView, promotions: Promotions) -> None:
        queues = self.queues(view.pending, promotions)
        for gang in view.pending[queues > 0]:
            executed_s = float(gang["executed_s"])
            waited_s = view.now_s - float(gang["arrival_s"]) - executed_s
            executed_then, waited_then = promotions.get(int(gang["id"]), (0.0, 0.0))
            if waited_s - waited_then >= self.starvation * (executed_s - executed_then):
                promotions[int(gang["id"])] = (executed_s, waited_s)
