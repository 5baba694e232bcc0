"""What queue orders share: the first pending gang of an order that fits is started."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpuyard.envs.observation import index

from ..policy import Observation, ScorePolicy

IS_PLACE = index("candidates", "is_place")
PACK = index("candidates", "plan_pack")
SPEED = index("candidates", "speed")
# Squashed columns are compared directly: squashing is monotone.
POSITION = index("candidates", "position")
GPUS = index("candidates", "gpus")
ESTIMATE = index("candidates", "estimate_s")


class QueueOrder(ScorePolicy):
    """Starts the gang of the highest score that fits; ties go to the oldest.

    It chooses among the gangs of the observed window, places by plan "pack" (another one only if
    that is infeasible) on the fastest pool with room, never stops a running gang, and waits if
    nothing fits.
    """

    def eligible(self, observation: Observation) -> NDArray[np.bool_]:
        """Return the rows that may be chosen, bool (n, C)."""
        return starts(observation)

    def act(self, observation: Observation) -> NDArray[np.int64]:
        """Return the row chosen in each environment, shape (n,)."""
        eligible, table = self.eligible(observation), observation["candidates"]
        # Rows stand in queue order: argmax leaves ties to the oldest gang.
        first = np.where(eligible, self.score(observation), -np.inf).argmax(axis=1)
        position = table[:, :, POSITION]
        same_gang = position == np.take_along_axis(position, first[:, None], axis=1)
        preference = table[:, :, PACK] + table[:, :, SPEED] / 2
        action = np.where(eligible & same_gang, preference, -1.0).argmax(axis=1)
        return np.where(eligible.any(axis=1), action, waiting_row(observation))


def starts(observation: Observation) -> NDArray[np.bool_]:
    """Return which rows start a gang and are feasible, bool (n, C)."""
    return (observation["action_mask"] > 0) & (observation["candidates"][:, :, IS_PLACE] > 0)


def waiting_row(observation: Observation) -> int:
    """Return the row that waits: the last but one, before the row of a plan of one's own."""
    return observation["action_mask"].shape[1] - 2
