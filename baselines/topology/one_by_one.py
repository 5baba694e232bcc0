"""Pod by pod: each goes to the best node as things stand, as kube-scheduler does it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from .planner import TopologyPlanner
from .request import Ints, Request

TIES = ("random", "first")


def one_by_one(
    request: Request,
    score: Callable[[Ints, int, Ints], NDArray[np.float64]],
    rng: np.random.Generator | None = None,
) -> Ints | None:
    """Return the node of each pod, each the best one after those before it.

    The first pod's required domain binds the others (Kubernetes: affinity to the gang's own pods);
    nodes of domains that do not hold the whole gang are left out.

    Args:
        request: the gang.
        score: of free GPUs (N,), a pod's size and the nodes chosen so far: of each node (N,).
        rng: draws among equals; None: the lowest number.

    Returns:
        int64 (m,), or None if no domain holds the gang.
    """
    domain = request.tree[request.required]
    allowed, free = request.allowed(), request.free.copy()
    if not allowed.any():
        return None
    nodes = np.empty(request.pods, np.int64)
    for pod, size in enumerate(request.sizes):
        values = np.where(allowed & (free >= size), score(free, int(size), nodes[:pod]), -np.inf)
        best = np.flatnonzero(values == values.max())
        nodes[pod] = best[0 if rng is None else rng.integers(len(best))]
        free[nodes[pod]] -= size
        if pod == 0:
            allowed &= domain == domain[nodes[0]]
    return nodes


class OneByOne(TopologyPlanner):
    """Places pods one by one by a score of nodes; subclasses give it by :meth:`score`.

    Args:
        ties: among equal nodes one at "random", as kube-scheduler and Volcano do it, or the
            "first".
        order: see :class:`.planner.TopologyPlanner`.
        pod_gpus: see there.

    Raises:
        ValueError: unknown ties.
    """

    def __init__(
        self, *, ties: str = "random", order: str = "fifo-first-fit", pod_gpus: int | None = None
    ) -> None:
        super().__init__(order=order, pod_gpus=pod_gpus)
        if ties not in TIES:
            raise ValueError(f"ties = {ties!r} must be one of {', '.join(TIES)}")
        self.ties = ties

    def choose(self, request: Request) -> Ints | None:
        """Return the best node of each pod in turn."""

        def score(free: Ints, size: int, nodes: Ints) -> NDArray[np.float64]:
            return self.score(request, free, size, nodes)

        return one_by_one(request, score, self.rng if self.ties == "random" else None)

    def score(self, request: Request, free: Ints, size: int, nodes: Ints) -> NDArray[np.float64]:
        """Return the score of every node, float64 (N,), for a pod of ``size`` GPUs.

        Args:
            request: the gang.
            free: int64 (N,), GPUs left by the pods before it.
            size: at least 1; nodes with fewer free GPUs are passed over whatever their score.
            nodes: of the pods before it.
        """
        raise NotImplementedError
