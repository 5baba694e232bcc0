"""Never scale: the baseline of all autoscalers."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from .rule import Replicas, ScalingRule
from .signals import Signals


class Fixed(ScalingRule):
    """Keeps a given number of replicas, or those that there are at the first look.

    Args:
        replicas: by role; a role that is left out keeps what it has at the first look.
    """

    def __init__(self, replicas: Mapping[str, int] | None = None) -> None:
        self.given = dict(replicas or {})
        for name, count in self.given.items():
            if count < 0:
                raise ValueError(f"replicas of {name} = {count!r}: give 0 or more")
        super().__init__(0.0, 0, sys.maxsize)

    def restart(self) -> None:
        """Forget the first look."""
        super().restart()
        self._kept = dict(self.given)

    def decide(self, signals: Signals) -> Replicas:
        """Return what was given, or was there first."""
        return {
            name: self._kept.setdefault(name, role.replicas) for name, role in signals.roles.items()
        }
