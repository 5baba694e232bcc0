"""Rank-aware placement: neighbours in rank order stand near each other in the tree.

Ring and pipeline traffic flows between neighbouring ranks, so a gang whose ranks follow the tree
crosses leafs as few times as it has leafs; in the order in which a scheduler happened to place its
pods it may cross them at every step. Source: rank ordering of Kueue's topology-aware scheduling
("rank-based ordering" of the pods of a job) and of Slurm, which sorts the nodes of a job.
"""

from __future__ import annotations

import numpy as np

from ..room import GPUs, Room
from .kubernetes import Binpack
from .request import Ints


def tree_order(nodes: Ints, tree: Ints) -> Ints:
    """Return the order of the tree, by zone, pod, leaf, then node; ranks on one node keep theirs.

    Args:
        nodes: int64 (n,), node of each rank.
        tree: int64 (levels, N), domain of each node, nodes first.
    """
    return np.lexsort(tree[:, nodes])


def crossings(nodes: Ints, domain: Ints) -> int:
    """Return how often a ring over the ranks, in order, goes from one domain to another."""
    of_rank = domain[nodes]
    return int((of_rank != np.roll(of_rank, 1)).sum())


class RankAware(Binpack):
    """The GPUs of Kubernetes' bin-packing, with ranks in the order of the tree."""

    def fit(self, room: Room, gang: np.void, pool: int) -> GPUs | None:
        """Return the GPUs that bin-packing finds, sorted."""
        gpus = super().fit(room, gang, pool)
        if gpus is None:
            return None
        tree = room.tree
        return gpus[tree_order(gpus // room.free.shape[1], tree)]
