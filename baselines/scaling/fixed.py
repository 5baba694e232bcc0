"""Never scale: the baseline of all autoscalers."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from .rule import Replicas, ScalingRule
from .signals import Signals


class Fixed(ScalingRule):
    """Keeps a given number of replicas, or those that there are at the first look at any.

    Args:
        replicas: by role; a role that is left out keeps what it has when it first has some, which
            is later than the first look where a deployment is asked for later.
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
        for name, role in signals.roles.items():
            if role.replicas > 0:
                self._kept.setdefault(name, role.replicas)
        return {name: self._kept.get(name, 0) for name in signals.roles}
