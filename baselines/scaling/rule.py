"""The one interface of autoscaling rules."""

from __future__ import annotations

from .signals import Signals

Replicas = dict[str, int]
"""Replicas by role."""


class ScalingRule:
    """Decides how many replicas each role of a service should have.

    It remembers what it has seen, so there is one rule for each service and episode.

    Attributes:
        period_s: seconds between two of its decisions; looks in between are only remembered.
        least: replicas that a role keeps.
        most: replicas that a role may have.

    Raises:
        ValueError: an option out of range, naming it and what is allowed.
    """

    def __init__(self, period_s: float, least: int, most: int) -> None:
        if not period_s >= 0:
            raise ValueError(f"period_s = {period_s!r}: give seconds, 0 or more")
        if not 0 <= least <= most:
            raise ValueError(f"least = {least!r}, most = {most!r}: give 0 <= least <= most")
        self.period_s, self.least, self.most = period_s, least, most
        self.restart()

    def restart(self) -> None:
        """Forget everything, as for a new episode. Subclasses that override it call it too."""
        self._due_s = float("-inf")

    def desired(self, signals: Signals) -> Replicas:
        """Return how many replicas each role should have, starting ones included.

        Args:
            signals: what is seen now; call it once for each look, in the order of time.
        """
        self.observe(signals)
        if signals.now_s < self._due_s:
            return {name: role.replicas for name, role in signals.roles.items()}
        self._due_s = signals.now_s + self.period_s
        wanted = self.decide(signals)
        return {name: min(max(count, self.least), self.most) for name, count in wanted.items()}

    def observe(self, signals: Signals) -> None:
        """Remember what a look shows; most rules need nothing."""

    def decide(self, signals: Signals) -> Replicas:
        """Return the replicas of each role, within no bounds yet."""
        raise NotImplementedError
