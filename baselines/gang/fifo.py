"""First in, first out: with the queue's head blocking it, or passing it by."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..policy import Observation
from .order import QueueOrder


class FIFOFirstFit(QueueOrder):
    """The oldest gang that fits.

    Source: ``fjf`` (fit-first) of the Tiresias simulator; the queue that Kubernetes and most
    learning environments compare with. A big gang may starve while small ones pass it by.
    """


class FIFO(FIFOFirstFit):
    """The oldest gang; while it does not fit, nobody starts.

    Source: the default order of the vClos simulator (head-of-line blocking), FCFS of Feitelson's
    parallel job scheduling. If waiting is infeasible because nothing would ever happen, the oldest
    gang that fits starts.
    """

    def eligible(self, observation: Observation) -> NDArray[np.bool_]:
        """Return the rows of the queue's head."""
        row = self.waiting_row(observation)[:, None]
        may_wait = np.take_along_axis(observation["action_mask"], row, axis=1) > 0
        is_head = self.column(observation, "candidates", "place.position") == 0
        return self.starts(observation) & (is_head | ~may_wait)
