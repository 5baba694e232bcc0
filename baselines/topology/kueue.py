"""Kueue's topology-aware scheduling: the smallest domain that fits, or the fewest large ones.

Source: Kueue, KEP 2724 and ``tas_flavor_snapshot.go``. Pods that fit are counted per domain from
the nodes up. From the preferred level upwards the first level is taken at which one domain holds
the gang; of those the smallest that does (best fit). Then the gang descends level by level: of the
children of a domain those with the most room are taken, the last one by best fit. A gang without
a preference is "unconstrained": it fills the nodes with the least free capacity first.

Balanced placement (alpha) evens out the pods over the domains of the preferred level instead, which
suits all-to-all traffic.
"""

from __future__ import annotations

import numpy as np

from .planner import TopologyPlanner
from .request import NODE, ZONE, Ints, Request, level_index, totals


def take(room: Ints, pods: int, least_free: bool = False) -> Ints | None:
    """Return how many pods each domain gets, int64 (domains,), or None if they do not fit.

    Args:
        room: int64 (domains,), pods that each has room for.
        pods: to be placed.
        least_free: domains with the least room first; otherwise those with the most, the last one
            being the smallest that holds the rest. Ties go to the lowest number.
    """
    if least_free and (room >= pods).any():
        order = [int(np.where(room >= pods, room, room.max() + 1).argmin())]
    else:
        order = np.argsort(room if least_free else -room, kind="stable").tolist()
    given = np.zeros_like(room)
    for domain in order:
        rest = pods - int(given.sum())
        if not rest:
            break
        if not least_free and room[domain] >= rest:
            left = np.where((given == 0) & (room >= rest), room, room.max() + 1)
            domain = int(left.argmin())
        given[domain] = min(room[domain], rest)
    return given if given.sum() == pods else None


def balance(room: Ints, pods: int) -> Ints | None:
    """Return how many pods each domain gets if they are evened out, or None if they do not fit.

    With D, the fewest domains that hold the gang, the threshold is ``min(pods // D, room of the
    D-th largest)``. Of the sets of D domains with at least that much room each, the one with the
    least room in all that holds the gang is taken; each gets the threshold, and what is left goes
    to the roomiest first.
    """
    order = np.argsort(-room, kind="stable")
    held = room[order].cumsum()
    if held[-1] < pods:
        return None
    count = int(np.searchsorted(held, pods)) + 1
    threshold = min(pods // count, int(room[order[count - 1]]))
    eligible = np.flatnonzero(room >= max(threshold, 1))
    chosen = least_room_set(room[eligible], count, pods)
    given = np.zeros_like(room)
    given[eligible[chosen]] = threshold
    for domain in order:  # the roomiest first
        if given[domain]:
            more = min(int(room[domain]) - threshold, pods - int(given.sum()))
            given[domain] += more
    return given


def least_room_set(room: Ints, count: int, pods: int) -> Ints:
    """Return ``count`` domains with the least room in all of those that hold ``pods``, indices.

    Such a set must exist. Exact: bit s of ``sums[c]`` says that c domains with s in all exist.
    """
    sums = [[1] + [0] * count]
    for size in room.tolist():
        last = sums[-1]
        sums.append([1, *(last[c] | last[c - 1] << size for c in range(1, count + 1))])
    enough = sums[-1][count] >> pods
    total = pods + (enough & -enough).bit_length() - 1
    chosen = []
    for domain in range(len(room) - 1, -1, -1):
        if not sums[domain][count] >> total & 1:  # only with this one
            chosen.append(domain)
            count, total = count - 1, total - int(room[domain])
    return np.array(chosen[::-1])


class KueueTAS(TopologyPlanner):
    """Places gangs as Kueue's topology-aware scheduling does.

    Args:
        balanced: even out the pods over the domains of the preferred level where no single one of
            them holds the gang.
        default: preferred level of gangs that prefer none, by name; "zone": unconstrained.
        order: see :class:`.planner.TopologyPlanner`.
        pod_gpus: see there.

    Raises:
        ValueError: unknown level.
    """

    def __init__(
        self,
        *,
        balanced: bool = False,
        default: str = "zone",
        order: str = "fifo-first-fit",
        pod_gpus: int | None = None,
    ) -> None:
        super().__init__(order=order, pod_gpus=pod_gpus)
        self.balanced, self.default = balanced, level_index("default", default)

    def choose(self, request: Request) -> Ints | None:
        """Return the nodes of the pods: of the smallest domain that fits, then level by level."""
        preferred = request.preferred(self.default)
        if preferred == ZONE:
            tightest = request.tightest()
            given = take(tightest.slots, request.pods, least_free=True) if tightest else None
            return None if given is None else np.repeat(np.arange(len(given)), given)
        for level in range(preferred, request.required + 1):
            room = totals(request.tree[level], request.slots)
            fits = np.flatnonzero(room >= request.pods)
            if len(fits):
                smallest = int(fits[room[fits].argmin()])
                even = preferred if self.balanced else -1
                return descend(request.tree, request.slots, level, smallest, request.pods, even)
        return None


def descend(tree: Ints, slots: Ints, level: int, domain: int, pods: int, even: int = -1) -> Ints:
    """Return the node of each pod inside a domain that holds them all, by domain number.

    Args:
        tree: int64 (levels, N), domain of each node, nodes first.
        slots: int64 (N,), pods that each node has room for.
        level: of the domain.
        domain: its number.
        pods: to be placed.
        even: level whose domains share their parent's pods evenly, -1: none.
    """
    if level == NODE:
        return np.full(pods, domain)
    room = totals(tree[level - 1], np.where(tree[level] == domain, slots, 0))
    given = balance(room, pods) if level - 1 == even else take(room, pods)
    assert given is not None, "the domain holds them"
    children = np.flatnonzero(given)
    if level - 1 == NODE:
        return np.repeat(children, given[children])
    return np.concatenate(
        [
            descend(tree, slots, level - 1, child, int(given[child]), even)
            for child in children.tolist()
        ]
    )
