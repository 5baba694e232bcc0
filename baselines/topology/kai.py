"""KAI topology packing: the deepest level that holds the gang, and there the tightest domain.

Source: KAI Scheduler's topology plugin (NVIDIA, Apache-2.0, March 2026):

1. candidate levels: from the preferred one up to the required one;
2. a domain is eligible if it has room for all pods;
3. the deepest level with an eligible domain, and of those the one with the highest ratio of
   requested to free GPUs; ties by domain id;
4. inside it sub-domains of the preferred level with more free room come first, and nodes of a
   sub-domain in bin-packing order. (KAI sorts sub-domains into ten classes of rank; here the order
   is exact.)
"""

from __future__ import annotations

import numpy as np

from .planner import TopologyPlanner
from .request import Ints, Request, fill, level_index, totals


def tightest_domain(tree: Ints, slots: Ints, free: Ints, pods: int) -> tuple[int, int] | None:
    """Return level and domain that hold a gang: the first level that can, there the least room.

    Args:
        tree: int64 (levels, N), domain of each node; the deepest level first.
        slots: int64 (N,), pods that each node has room for.
        free: int64 (N,), free GPUs.
        pods: of the gang.
    """
    for level, domain in enumerate(tree):
        fits = totals(domain, slots) >= pods
        if fits.any():
            # requested / free is highest where the fewest GPUs are free
            room = np.where(fits, totals(domain, free), np.iinfo(np.int64).max)
            return level, int(room.argmin())
    return None


def node_order(inside: Ints, free: Ints, part: Ints) -> Ints:
    """Return nodes in the order in which a gang takes them.

    Args:
        inside: int64 (n,), nodes of the chosen domain.
        free: int64 (N,), free GPUs.
        part: int64 (N,), sub-domain of each node at the preferred level.

    Returns:
        Emptier sub-domains first; in one of them the fuller nodes first.
    """
    room = totals(part, free)[part[inside]]
    return inside[np.lexsort((inside, free[inside], part[inside], -room))]


class KAI(TopologyPlanner):
    """Packs each gang into the tightest domain of the deepest level that holds it.

    Args:
        default: preferred level of gangs that prefer none (whose preferred level is the zone), by
            name. Run:ai applies the lowest level automatically; a gang of several nodes can only
            use "leaf" and wider.
        order: see :class:`.planner.TopologyPlanner`.
        pod_gpus: see there.

    Raises:
        ValueError: unknown level.
    """

    def __init__(
        self, *, default: str = "leaf", order: str = "kai-fair-share", pod_gpus: int | None = None
    ) -> None:
        super().__init__(order=order, pod_gpus=pod_gpus)
        self.default = level_index("default", default)

    def choose(self, request: Request) -> Ints | None:
        """Return the nodes of the tightest domain, emptier sub-domains first."""
        preferred, required = request.preferred(self.default), request.required
        tree, slots = request.tree, request.slots
        found = tightest_domain(tree[preferred : required + 1], slots, request.free, request.pods)
        if found is None:
            return None
        level, domain = found
        inside = np.flatnonzero(tree[preferred + level] == domain)
        return fill(node_order(inside, request.free, tree[preferred]), slots, request.pods)
