"""Requests in flight per replica, a spare one beside them, and a fleet that goes when nobody asks.

Source: Ray Serve, ``AutoscalingConfig`` (docs.ray.io, "Advanced Ray Serve Autoscaling"):
``initial_replicas``, ``target_ongoing_requests`` (those queued and running), ``downscale_delay_s``
and, for the last ones, ``downscale_to_zero_delay_s``. Knative's autoscaler has the same parts:
``initial-scale``, a target of requests in flight, ``scale-down-delay`` and
``scale-to-zero-pod-retention-period`` (knative.dev, Serving, autoscaling); so has KEDA, whose
``cooldownPeriod`` of 300 s counts from the last activity. Spare replicas are N + 1 redundancy: a
burst comes faster than a replica starts. The defaults are not those systems', they were searched
for ``cluster-default`` (``docs/baselines_scaling.md``).
"""

from __future__ import annotations

from collections import deque

from .hpa import ceil
from .rule import Replicas, ScalingRule
from .signals import RoleSignals, Signals


class Idle(ScalingRule):
    """``max(ceil(requests at replicas / batch), 1) + spare``: up at once, down after a while.

    Until the first replica of a role is ready it wants the whole fleet. Of a role that nobody has
    asked anything for ``idle_s`` it keeps ``least`` replicas, and one at least: a role without
    replicas sends no signals. Each role is scaled alone.

    Args:
        fleet: replicas to begin with.
        batch: requests, queued and running, for which there is one replica.
        spare: replicas beyond those while requests come.
        window_s: it goes down to the most that it wanted within so many seconds.
        idle_s: seconds without a request after which the spare ones go, too.
        least, most: see :class:`~gpuyard.baselines.scaling.rule.ScalingRule`.
    """

    def __init__(
        self,
        fleet: int,
        batch: float,
        spare: int,
        window_s: float,
        idle_s: float,
        least: int = 1,
        most: int = 1024,
    ) -> None:
        if not batch > 0:
            raise ValueError(f"batch = {batch!r}: give requests, above 0")
        if not spare >= 0:
            raise ValueError(f"spare = {spare!r}: give replicas, 0 or more")
        for name, value in (("window_s", window_s), ("idle_s", idle_s)):
            if not value >= 0:
                raise ValueError(f"{name} = {value!r}: give seconds, 0 or more")
        self.fleet, self.batch, self.spare = fleet, batch, spare
        self.window_s, self.idle_s = window_s, idle_s
        super().__init__(0.0, max(least, 1), most)

    def restart(self) -> None:
        """Forget what was wanted, and when somebody asked."""
        super().restart()
        self._past: dict[str, deque[tuple[float, int]]] = {}
        self._asked_s: dict[str, float] = {}

    def decide(self, signals: Signals) -> Replicas:
        """Return the most that each role wanted within the window."""
        return {
            name: self._highest(name, signals.now_s, self._wants(name, role, signals))
            for name, role in signals.roles.items()
        }

    def _wants(self, name: str, role: RoleSignals, signals: Signals) -> int:
        """Return what a look at a role asks for."""
        requests = sum(role.waiting) + sum(role.running)
        if requests or signals.rate_per_s or not role.ready:  # none ready: it cannot be asked yet
            self._asked_s[name] = signals.now_s
        if not role.ready:
            return self.fleet
        if signals.now_s - self._asked_s.setdefault(name, signals.now_s) >= self.idle_s:
            return self.least
        return max(ceil(requests / self.batch), 1) + self.spare

    def _highest(self, name: str, now_s: float, wanted: int) -> int:
        """Remember what a role wants now; return the most of the window."""
        past = self._past.setdefault(name, deque())
        past.append((now_s, wanted))
        while past[0][0] < now_s - self.window_s:
            past.popleft()
        return max(count for _, count in past)
