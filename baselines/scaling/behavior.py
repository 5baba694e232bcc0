"""How fast a Kubernetes HorizontalPodAutoscaler may go: stabilisation windows and policies.

Source: kubernetes.io, concepts, Horizontal Pod Autoscaling, "Configurable scaling behavior", and
its defaults: up by the larger of 4 pods and 100 % in 15 s at once, down by 100 % in 15 s to the
highest recommendation of the last 300 s.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Literal

Select = Literal["max", "min", "disabled"]


@dataclass(frozen=True)
class Policy:
    """Most change within a period.

    Attributes:
        kind: ``pods``: so many; ``percent``: of the replicas at the begin of the period.
        value: above 0.
        period_s: length of the period.
    """

    kind: Literal["pods", "percent"]
    value: float
    period_s: float

    def highest(self, begin: int) -> int:
        """Return the most replicas that a period may end with."""
        if self.kind == "pods":
            return begin + int(self.value)
        return math.ceil(begin * (1 + self.value / 100))

    def lowest(self, begin: int) -> int:
        """Return the fewest replicas that a period may end with."""
        if self.kind == "pods":
            return begin - int(self.value)
        return int(begin * (1 - self.value / 100))


@dataclass(frozen=True)
class Behavior:
    """Windows and policies for both directions; the defaults are those of Kubernetes.

    Attributes:
        up_window_s, down_window_s: how far back recommendations are looked at: the lowest counts
            for scaling up, the highest for scaling down.
        up, down: policies.
        up_select, down_select: the policy that allows the most change, the least, or no scaling.
    """

    up_window_s: float = 0.0
    down_window_s: float = 300.0
    up: tuple[Policy, ...] = (Policy("percent", 100, 15), Policy("pods", 4, 15))
    down: tuple[Policy, ...] = (Policy("percent", 100, 15),)
    up_select: Select = "max"
    down_select: Select = "max"


class Pace:
    """Turns the recommendations for one role into steps that a behaviour allows."""

    def __init__(self, behavior: Behavior) -> None:
        self.behavior = behavior
        self.recommended: deque[tuple[float, int]] = deque()
        self.changes: deque[tuple[float, int]] = deque()

    def step(self, now_s: float, current: int, recommended: int) -> int:
        """Return the replicas to have from now on.

        Args:
            now_s: time of the decision.
            current: replicas that there are.
            recommended: replicas that the metrics ask for.
        """
        wanted = self._limited(now_s, current, self._stabilised(now_s, current, recommended))
        if wanted != current:
            self.changes.append((now_s, wanted - current))
        return wanted

    def _stabilised(self, now_s: float, current: int, recommended: int) -> int:
        rules = self.behavior
        past = self.recommended
        if not past:
            past.append((now_s, current))  # as Kubernetes does when it first sees a target
        oldest_s = now_s - max(rules.up_window_s, rules.down_window_s)
        while past and past[0][0] <= oldest_s:
            past.popleft()
        lowest = min([recommended, *(n for at, n in past if at > now_s - rules.up_window_s)])
        highest = max([recommended, *(n for at, n in past if at > now_s - rules.down_window_s)])
        past.append((now_s, recommended))
        return max(min(current, highest), lowest)

    def _limited(self, now_s: float, current: int, wanted: int) -> int:
        rules = self.behavior
        if wanted > current:
            if rules.up_select == "disabled":
                return current
            ends = [p.highest(self._begin(now_s, current, p.period_s)) for p in rules.up]
            limit = max(ends) if rules.up_select == "max" else min(ends)
            return min(wanted, max(limit, current))
        if wanted < current:
            if rules.down_select == "disabled":
                return current
            ends = [p.lowest(self._begin(now_s, current, p.period_s)) for p in rules.down]
            limit = min(ends) if rules.down_select == "max" else max(ends)
            return max(wanted, min(limit, current))
        return current

    def _begin(self, now_s: float, current: int, period_s: float) -> int:
        """Return the replicas at the begin of the period that ends now."""
        longest_s = max(policy.period_s for policy in (*self.behavior.up, *self.behavior.down))
        while self.changes and self.changes[0][0] <= now_s - longest_s:
            self.changes.popleft()
        return current - sum(change for at, change in self.changes if at > now_s - period_s)
