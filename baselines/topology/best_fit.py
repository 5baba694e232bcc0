"""Best fit: the node on which the least is left over."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .one_by_one import OneByOne
from .request import Ints, Request


def leftover(
    free: ArrayLike, request: ArrayLike, largest: ArrayLike, weights: ArrayLike
) -> NDArray[np.float64]:
    """Return what would be left on each node, weighted over resources.

    ``sum_i w_i (free_i - request_i) / largest_i``, the best-fit baseline of FGD (USENIX ATC 2023),
    there with CPUs and GPUs, weights 1/2 each.

    Args:
        free: (N, resources), free on each node.
        request: (resources,), what the pod asks for.
        largest: (resources,), that any node has at all.
        weights: (resources,).

    Returns:
        float64 (N,); the smallest is the best fit.
    """
    return (np.asarray(free) - request) / np.asarray(largest) @ np.asarray(weights)


class BestFit(OneByOne):
    """Each pod on the node with the fewest GPUs left over; ties go to the lowest number.

    With GPUs as the only resource that is the order of Kubernetes' MostAllocated; the ties, which
    all pods of whole nodes are, differ: this rule fills the cluster from one end, as the static
    baselines of the vClos simulator do.
    """

    def __init__(
        self, *, ties: str = "first", order: str = "fifo-first-fit", pod_gpus: int | None = None
    ) -> None:
        super().__init__(ties=ties, order=order, pod_gpus=pod_gpus)

    def score(self, request: Request, free: Ints, size: int, nodes: Ints) -> NDArray[np.float64]:
        """Return minus the GPUs left over, as a share of a node."""
        return -leftover(free[:, None], [size], [request.node_gpus], [1.0])
