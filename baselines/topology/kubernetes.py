"""Kubernetes' NodeResourcesFit: pack nodes, or spread over them.

Source: kube-scheduler's scoring strategies MostAllocated and LeastAllocated, with GPUs as the only
resource; equal nodes are drawn at random. It knows nothing of leafs and pods beyond what a gang
requires.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .one_by_one import OneByOne
from .request import Ints, Request


def most_allocated(free: Ints, size: int, capacity: int) -> NDArray[np.float64]:
    """Return 100 x (used + size) / capacity of each node: the fuller afterwards, the better."""
    return 100.0 * (capacity - free + size) / capacity


def least_allocated(free: Ints, size: int, capacity: int) -> NDArray[np.float64]:
    """Return 100 x (free - size) / capacity of each node: the emptier afterwards, the better."""
    return 100.0 * (free - size) / capacity


class Binpack(OneByOne):
    """Each pod on the fullest node that has room for it."""

    def score(self, request: Request, free: Ints, size: int, nodes: Ints) -> NDArray[np.float64]:
        """Return MostAllocated."""
        return most_allocated(free, size, request.node_gpus)


class Spread(OneByOne):
    """Each pod on the emptiest node."""

    def score(self, request: Request, free: Ints, size: int, nodes: Ints) -> NDArray[np.float64]:
        """Return LeastAllocated."""
        return least_allocated(free, size, request.node_gpus)
