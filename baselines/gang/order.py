"""What queue orders share: the first pending gang of an order that fits is started."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..policy import Observation, ScorePolicy
from .keys import Array, Queue, oldest


class Starter(ScorePolicy):
    """What all share that start gangs by the rows of the observation."""

    decides = frozenset({"place"})

    def starts(self, observation: Observation) -> NDArray[np.bool_]:
        """Return which rows start a gang and are feasible, bool (n, C)."""
        is_place = self.column(observation, "candidates", "place.is_place")
        return (observation["action_mask"] > 0) & (is_place > 0)

    def waiting_row(self, observation: Observation) -> NDArray[np.int64]:
        """Return the row that waits for the next event, shape (n,)."""
        return self.column(observation, "candidates", "place.is_wait").argmax(axis=1)


class QueueOrder(Starter):
    """Starts the gang of the highest score that fits; ties go to the oldest.

    It chooses among the gangs of the observed window, places by plan "pack" (another one only if
    that is infeasible) on the fastest pool with room, never stops a running gang, and waits if
    nothing fits. Subclasses give :meth:`key`.
    """

    def key(self, queue: Queue) -> Array:
        """Return the order of the gangs, lowest first; one of :mod:`.keys`."""
        return oldest(queue)

    def score(self, observation: Observation) -> NDArray[np.floating]:
        """Return minus the key of the gang that each row would start."""

        def read(name: str) -> Array:
            return self.read(observation, "candidates", f"place.{name}")

        queue = Queue(
            gpus=read("gpus"),
            estimate_s=read("estimate_s"),
            executed_s=read("executed_s"),
            age_s=read("age_s"),
            position=read("position"),
            waiting=self.read(observation, "cluster", "place.pending")[:, None],
        )
        return -self.key(queue)

    def eligible(self, observation: Observation) -> NDArray[np.bool_]:
        """Return the rows that may be chosen, bool (n, C)."""
        return self.starts(observation)

    def act(self, observation: Observation) -> NDArray[np.int64]:
        """Return the row chosen in each environment, shape (n,)."""
        eligible = self.eligible(observation)
        # Rows stand in queue order: argmax leaves ties to the oldest gang.
        first = np.where(eligible, self.score(observation), -np.inf).argmax(axis=1)
        position = self.column(observation, "candidates", "place.position")
        same_gang = position == np.take_along_axis(position, first[:, None], axis=1)
        packed = self.column(observation, "candidates", "place.plan_pack")
        preference = packed + self.column(observation, "candidates", "place.speed") / 2
        action = np.where(eligible & same_gang, preference, -1.0).argmax(axis=1)
        return np.where(eligible.any(axis=1), action, self.waiting_row(observation))
