"""First in, first out: with the queue's head blocking it, or passing it by."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..policy import Observation
from .order import POSITION, QueueOrder, starts, waiting_row


class FIFOFirstFit(QueueOrder):
    """The oldest gang that fits.

    Source: ``fjf`` (fit-first) of the Tiresias simulator; the queue that Kubernetes and most
    learning environments compare with. A big gang may starve while small ones pass it by.
    """

    def score(self, observation: Observation) -> NDArray[np.floating]:
        """Return minus the place in the queue (squashed)."""
        return -observation["candidates"][:, :, POSITION]


class FIFO(FIFOFirstFit):
    """The oldest gang; while it does not fit, nobody starts.

    Source: the default order of the vClos simulator (head-of-line blocking), FCFS of Feitelson's
    parallel job scheduling. If waiting is infeasible because nothing would ever happen, the oldest
    gang that fits starts.
    """

    def eligible(self, observation: Observation) -> NDArray[np.bool_]:
        """Return the rows of the queue's head."""
        may_wait = observation["action_mask"][:, [waiting_row(observation)]] > 0
        is_head = observation["candidates"][:, :, POSITION] == 0
        return starts(observation) & (is_head | ~may_wait)
