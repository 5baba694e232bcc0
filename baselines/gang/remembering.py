"""Planners that remember something of each world."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from .scheduler import Scheduler

if TYPE_CHECKING:
    from gpuyard.envs.scenario import Scenario

Memory = TypeVar("Memory")


class Remembering(Scheduler, Generic[Memory]):
    """A planner with one memory per world; subclasses implement ``fresh`` and ``plan_for``.

    Attributes:
        memories: one per world, made anew at the start of each episode.
    """

    memories: list[Memory]

    def fresh(self) -> Memory:
        """Return what is known at the start of an episode."""
        raise NotImplementedError

    def reset(self, scenario: Scenario, num_envs: int, seed: int = 0) -> None:
        """Forget everything."""
        super().reset(scenario, num_envs, seed)
        self.memories = [self.fresh() for _ in range(num_envs)]

    def restart(self, done: NDArray[np.bool_]) -> None:
        """Forget the worlds whose episode has ended."""
        for index in np.flatnonzero(done):
            self.memories[index] = self.fresh()
