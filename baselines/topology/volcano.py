"""Volcano: bin-packing of nodes, and of HyperNodes (leafs, pods) tier by tier.

Source: Volcano's plugins ``binpack`` and ``network-topology-aware``. A HyperNode of tier 1 is a
leaf, of tier 2 a pod, of tier 3 the zone. A gang is all or nothing here as there (``gang`` plugin
with minAvailable = all).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .one_by_one import OneByOne
from .request import LEAF, ZONE, Ints, Request, totals

MIN_TIER, MAX_TIER = LEAF, ZONE


def binpack(
    used: ArrayLike, request: ArrayLike, allocatable: ArrayLike, weights: ArrayLike
) -> NDArray[np.float64]:
    """Return the bin-packing score of each node or HyperNode, 0 to 100.

    ``100 sum_r w_r (used_r + request_r) / allocatable_r / sum_r w_r``; 0 where any resource would
    overflow.

    Args:
        used: (N, resources).
        request: (resources,).
        allocatable: (N, resources).
        weights: (resources,).
    """
    weights = np.asarray(weights, float)
    share = (np.asarray(used) + request) / np.asarray(allocatable, float)
    return np.where((share <= 1).all(axis=1), 100.0 * (share @ weights) / weights.sum(), 0.0)


def tier_score(tree: Ints, nodes: Ints) -> NDArray[np.float64]:
    """Return how near each node is to those that a gang has already, 0 to 100, float64 (N,).

    ``100 (maxTier - tier) / (maxTier - minTier)`` with the tier of the lowest common ancestor of
    the node's leaf and the HyperNode of the gang's nodes (the smallest that has them all).

    Args:
        tree: int64 (4, N), domains by level.
        nodes: int64 (any,), the gang's so far; none: all nodes score 0.
    """
    score = np.zeros(tree.shape[1])
    if len(nodes):
        for tier in range(MAX_TIER, MIN_TIER - 1, -1):
            mine = tree[tier][nodes]
            if (mine == mine[0]).all():
                score[tree[tier] == mine[0]] = 100.0 * (MAX_TIER - tier) / (MAX_TIER - MIN_TIER)
    return score


class Binpack(OneByOne):
    """Each pod on the node with the highest bin-packing score.

    With GPUs as the only resource that is the order of Kubernetes' MostAllocated.
    """

    def score(self, request: Request, free: Ints, size: int, nodes: Ints) -> NDArray[np.float64]:
        """Return the bin-packing score."""
        capacity = np.full((len(free), 1), request.node_gpus)
        return binpack(capacity - free[:, None], [size], capacity, [1.0])


class NetworkTopology(Binpack):
    """Bin-packing inside the lowest HyperNode ("hard"), or drawn to where the gang is ("soft").

    Hard: tiers are tried from the lowest up to the one that the gang requires; of the HyperNodes of
    a tier that hold the gang, the one with the highest bin-packing score is taken. Soft: the pods
    go one by one to the node with the highest sum of the bin-packing score, the tier score and,
    among nodes of the highest tier score, 100 x the share of the gang's pods under its leaf.

    Args:
        mode: "hard" or "soft".
        topology_weight: of tier score and share, against the bin-packing score.
        ties: see :class:`.one_by_one.OneByOne`.
        order: see :class:`.planner.TopologyPlanner`.
        pod_gpus: see there.

    Raises:
        ValueError: unknown mode, or a negative weight.
    """

    def __init__(
        self,
        *,
        mode: str = "hard",
        topology_weight: float = 1.0,
        ties: str = "random",
        order: str = "volcano",
        pod_gpus: int | None = None,
    ) -> None:
        super().__init__(ties=ties, order=order, pod_gpus=pod_gpus)
        if mode not in ("hard", "soft"):
            raise ValueError(f"mode = {mode!r} must be 'hard' or 'soft'")
        if not topology_weight >= 0:
            raise ValueError(f"topology_weight = {topology_weight!r} must be 0 or more")
        self.mode, self.topology_weight = mode, topology_weight

    def choose(self, request: Request) -> Ints | None:
        """Return the nodes of the best HyperNode, or those nearest to each other."""
        if self.mode == "hard":
            inside = best_hypernode(request)
            if inside is None:
                return None
            request = request.within(inside)
        return super().choose(request)

    def score(self, request: Request, free: Ints, size: int, nodes: Ints) -> NDArray[np.float64]:
        """Return the bin-packing score, in soft mode with the topology's."""
        score = super().score(request, free, size, nodes)
        if self.mode == "soft" and len(nodes):
            near, leaf = tier_score(request.tree, nodes), request.tree[LEAF]
            share = totals(leaf, np.bincount(nodes, minlength=len(free)))[leaf] / request.pods
            nearest = near == near[free >= size].max()
            score = score + self.topology_weight * (near + 100.0 * share * nearest)
        return score


def best_hypernode(request: Request) -> NDArray[np.bool_] | None:
    """Return the nodes of the HyperNode that hard mode takes, bool (N,), or None if none fits.

    A gang that requires one node is held to that node, below the lowest tier.
    """
    slots, owned = request.slots, request.in_pool * request.node_gpus
    for tier in range(min(MIN_TIER, request.required), request.required + 1):
        domain = request.tree[tier]
        fits = totals(domain, slots) >= request.pods
        if fits.any():
            allocatable = np.maximum(totals(domain, owned), 1)[:, None]
            used = allocatable - totals(domain, request.free)[:, None]
            score = binpack(used, [request.sizes.sum()], allocatable, [1.0])
            return domain == np.where(fits, score, -1.0).argmax()
    return None
