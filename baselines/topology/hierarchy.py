"""Hierarchical gangs: sub-groups with minima and topology of their own, and segments.

Source: KAI Scheduler's PodGroup (``minMember``, ``subGroups``, ``minSubGroup``, ``segment-size``
annotations; NVIDIA, Apache-2.0, March 2026). Pure rules on trees of groups and arrays of nodes: the
gangs of a job stream have one group each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from .kai import node_order
from .request import Ints, fill, totals


@dataclass(frozen=True)
class Group:
    """Pods that are alike, or groups of them.

    A group is satisfied if ``min_member`` of its own pods, or ``min_sub_group`` of its children,
    are; by default all.

    Attributes:
        name: of the group.
        pods: of its own; 0 with children.
        min_member: pods that it needs; None: all. Only without children.
        children: groups inside it.
        min_sub_group: children that must be satisfied; None: all.
        required: level of the domain that must hold it (``LEVELS``), None: that of its parent.
        preferred: level that it would like to stay inside, None: none.
    """

    name: str
    pods: int = 0
    min_member: int | None = None
    children: tuple[Group, ...] = ()
    min_sub_group: int | None = None
    required: int | None = None
    preferred: int | None = None

    def __post_init__(self) -> None:
        if bool(self.pods) == bool(self.children):
            raise ValueError(f"group {self.name!r} must have pods or children, and not both")
        most = len(self.children) or self.pods
        least = self.min_sub_group if self.children else self.min_member
        other = self.min_member if self.children else self.min_sub_group
        if other is not None:
            raise ValueError(
                f"group {self.name!r}: min_member and min_sub_group exclude each other"
            )
        if least is not None and not 0 <= least <= most:
            raise ValueError(f"group {self.name!r} needs {least} of {most}: must be 0 to {most}")

    @property
    def least(self) -> int:
        """Pods, or children, that it needs."""
        if self.children:
            return len(self.children) if self.min_sub_group is None else self.min_sub_group
        return self.pods if self.min_member is None else self.min_member


def satisfied(group: Group, ready: Mapping[str, int]) -> bool:
    """Return whether a gang may run (or may go on running) with the pods that are ready.

    Args:
        group: the gang.
        ready: pods by name of the group that they belong to.
    """
    if not group.children:
        return ready.get(group.name, 0) >= group.least
    return sum(satisfied(child, ready) for child in group.children) >= group.least


def minimum_pods(group: Group) -> int:
    """Return the fewest pods with which a gang is satisfied."""
    if not group.children:
        return group.least
    return sum(sorted(minimum_pods(child) for child in group.children)[: group.least])


def place_group(group: Group, slots: Ints, tree: Ints) -> dict[str, Ints] | None:
    """Return the nodes of every group's minimum, or None: all of it or nothing.

    A group that requires a level takes, of the domains of that level with room for it, the
    tightest in which its children find their places too; with a preferred level the domains from
    there up to the required one are tried, the deepest level first. Nodes are bin-packed. Children
    are placed in the order in which they stand; beyond ``min_sub_group`` they are left out.

    Where a first choice leaves no place for those that follow, the next one is tried, so that every
    gang that can be placed is.

    Args:
        group: the gang; all pods ask for the same.
        slots: int64 (N,), pods that each node has room for.
        tree: int64 (levels, N), domain of each node at each level.

    Returns:
        Nodes of the pods, int64, by name of the group without children that they belong to.
    """
    return next(_placements(group, np.asarray(slots), tree, tree[_finest(group, len(tree))]), None)


def _finest(group: Group, levels: int) -> int:
    """Return the deepest level that any group requires: below it nodes are all alike."""
    own = levels - 1 if group.required is None else group.required
    return min([own, *(_finest(child, levels) for child in group.children)])


def _placements(group: Group, slots: Ints, tree: Ints, cell: Ints) -> Iterator[dict[str, Ints]]:
    """Yield all placements of a group that differ in the room they leave, the best first.

    Args:
        group: to be placed.
        slots: int64 (N,), pods that each node has room for.
        tree: int64 (levels, N), domain of each node at each level.
        cell: int64 (N,), domains inside which it does not matter which nodes are taken.
    """
    for inside in _domains(group, slots, tree):
        left = np.where(inside, slots, 0)
        if group.children:
            yield from _families(group.children, group.least, left, tree, cell)
        else:
            for nodes in _spreads(group, left, tree, cell):
                yield {group.name: nodes}


def _domains(group: Group, slots: Ints, tree: Ints) -> list[np.ndarray]:
    """Return the domains in which a group may stand, as masks of nodes, the best first."""
    widest = len(tree) - 1 if group.required is None else group.required
    deepest = widest if group.preferred is None else min(group.preferred, widest)
    masks = []
    for level in range(deepest, widest + 1):
        room = totals(tree[level], slots)
        fits = np.flatnonzero(room >= minimum_pods(group))
        masks += [tree[level] == domain for domain in fits[np.argsort(room[fits], kind="stable")]]
    return masks


def _families(
    children: tuple[Group, ...], least: int, slots: Ints, tree: Ints, cell: Ints
) -> Iterator[dict[str, Ints]]:
    """Yield placements of ``least`` of the children, those that stand first if possible."""
    if least == 0:
        yield {}
    if least == 0 or len(children) < least:
        return
    tried = set()
    for first in _placements(children[0], slots, tree, cell):
        left = slots.copy()
        for nodes in first.values():
            np.subtract.at(left, nodes, 1)
        room = totals(cell, left).tobytes()
        if room in tried:
            continue
        tried.add(room)
        for rest in _families(children[1:], least - 1, left, tree, cell):
            yield first | rest
    yield from _families(children[1:], least, slots, tree, cell)


def _spreads(group: Group, slots: Ints, tree: Ints, cell: Ints) -> Iterator[Ints]:
    """Yield nodes for a group's own pods: bin-packed, then any other division over cells."""
    part = tree[-1 if group.preferred is None else group.preferred]
    order = node_order(np.arange(len(slots)), slots, part)
    packed = fill(order, slots, group.least)
    if packed is None:
        return
    yield packed
    if not group.least:
        return
    names = np.unique(cell[slots > 0])
    room = [int(slots[cell == name].sum()) for name in names]
    for given in divisions(group.least, room):
        inside = [
            fill(order[cell[order] == name], slots, count)
            for name, count in zip(names, given, strict=True)
        ]
        yield np.concatenate([nodes for nodes in inside if nodes is not None])


def divisions(pods: int, room: list[int]) -> Iterator[list[int]]:
    """Yield all ways to divide pods over domains with so much room, the first ones fullest."""
    if not room:
        if pods == 0:
            yield []
        return
    for first in range(min(pods, room[0]), -1, -1):
        if pods - first <= sum(room[1:]):
            for rest in divisions(pods - first, room[1:]):
                yield [first, *rest]


def segments(pods: int, size: int, min_member: int) -> list[tuple[int, int]]:
    """Return pods and minimum of each segment of a group.

    Segment k has the pods k S to (k + 1) S - 1; those inside ``min_member`` are needed whole, the
    others are elastic and need none.

    Args:
        pods: of the group, R; there are ceil(R / S) segments.
        size: of a segment, S.
        min_member: pods that the group needs.
    """
    return [
        (min(size, pods - first), size if first + size <= min_member else 0)
        for first in range(0, pods, size)
    ]
