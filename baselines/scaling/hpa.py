"""The Kubernetes HorizontalPodAutoscaler on what replicas of LLM services report.

Source: kubernetes.io, concepts, Horizontal Pod Autoscaling, "Algorithm details".
"""

from __future__ import annotations

import math
from typing import Literal

from .behavior import Behavior, Pace
from .rule import Replicas, ScalingRule
from .signals import RoleSignals, Signals

SYNC_S = 15.0
"""Default of ``--horizontal-pod-autoscaler-sync-period``."""
TOLERANCE = 0.1
"""Default of ``--horizontal-pod-autoscaler-tolerance``."""

Metric = Literal["utilization", "waiting", "running", "kv_usage"]


class HPA(ScalingRule):
    """``ceil(replicas x mean / target)``, unless the ratio is within the tolerance of 1.

    Replicas that start count with 0 where it would scale up: they will take their part. Each role
    is scaled alone.

    Args:
        metric: what the mean is taken of, over replicas; see
            :class:`~gpuyard.baselines.scaling.signals.RoleSignals`.
        target: value that the mean should have, above 0. Kubernetes has a default for CPU only,
            0.8 of what was asked for.
        tolerance: least change of the ratio that is acted on.
        behavior: how fast it may go.
        least, most, period_s: see :class:`~gpuyard.baselines.scaling.rule.ScalingRule`.
    """

    def __init__(
        self,
        target: float,
        metric: Metric = "utilization",
        tolerance: float = TOLERANCE,
        behavior: Behavior | None = None,
        least: int = 1,
        most: int = 1024,
        period_s: float = SYNC_S,
    ) -> None:
        if not target > 0:
            raise ValueError(f"target = {target!r}: give a value above 0")
        self.metric, self.target, self.tolerance = metric, target, tolerance
        self.behavior = behavior or Behavior()
        super().__init__(period_s, least, most)

    def restart(self) -> None:
        """Forget recommendations and changes."""
        super().restart()
        self._paces: dict[str, Pace] = {}

    def decide(self, signals: Signals) -> Replicas:
        """Return the recommendation of each role, as fast as the behaviour allows."""
        return {
            name: self._paces.setdefault(name, Pace(self.behavior)).step(
                signals.now_s, role.replicas, self._bounded(self.recommend(name, role))
            )
            for name, role in signals.roles.items()
        }

    def recommend(self, name: str, role: RoleSignals) -> int:
        """Return how many replicas the metric asks for.

        Args:
            name: of the role.
            role: its signals.
        """
        values = getattr(role, self.metric)
        if not values:
            return role.replicas
        ratio = sum(values) / len(values) / self.target
        counted = role.ready
        if role.starting and ratio > 1:
            counted = role.replicas
            ratio = sum(values) / counted / self.target
            if ratio < 1:
                return role.replicas
        if abs(ratio - 1) <= self.tolerance:
            return role.replicas
        return ceil(ratio * counted)

    def _bounded(self, count: int) -> int:
        return min(max(count, self.least), self.most)


def ceil(number: float) -> int:
    """Return the next whole number, 7 for 7.000000001: quotients of what is not exact."""
    return math.ceil(number - 1e-9 * max(1.0, abs(number)))
