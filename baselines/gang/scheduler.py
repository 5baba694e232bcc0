"""Who comes next, whatever the placement: the half of a scheduler that keeps the queue."""

from __future__ import annotations

import numpy as np

from gpuyard.envs.cluster_view import ClusterView, Plan

from ..placement import Placement
from ..planner import Planner
from .keys import Key, queue_of
from .starting import next_start


class Scheduler(Planner):
    """A planner that asks a placement where gangs go.

    Attributes:
        placement: by default the tightest domain; see :class:`~gpuyard.baselines.placement`.
    """

    placement = Placement()


class Ordered(Scheduler):
    """The first gang of a queue order that fits; nobody is stopped.

    Args:
        key: of :mod:`.keys`.
        blocks: whether a gang that does not fit blocks all behind it.
    """

    def __init__(self, key: Key, blocks: bool = False) -> None:
        self.key, self.blocks = key, blocks

    def plan(self, view: ClusterView) -> Plan | None:
        """Return the start of the first gang that fits, or None."""
        keys = np.asarray(self.key(queue_of(view)), float)
        return next_start(view, self.placement, keys, blocks=self.blocks)
