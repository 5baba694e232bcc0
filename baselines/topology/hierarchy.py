"""Hierarchical gangs: sub-groups with minima and topology of their own, and segments.

Source: KAI Scheduler's PodGroup (``minMember``, ``subGroups``, ``minSubGroup``, ``segment-size``
annotations; NVIDIA, Apache-2.0, March 2026). Pure rules on trees of groups and arrays of nodes: the
gangs of a job stream have one group each.
"""

from __future__ import annotations

from collections.abc import Mapping
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
    there up to the required one are tried, the deepest level first. Children are placed in the
    order in which they stand; beyond ``min_sub_group`` they are left out.

    Args:
        group: the gang; all pods ask for the same.
        slots: int64 (N,), pods that each node has room for.
        tree: int64 (levels, N), domain of each node at each level.

    Returns:
        Nodes of the pods, int64, by name of the group without children that they belong to.
    """
    for inside in _domains(group, slots, tree):
        left = np.where(inside, slots, 0)
        placed = _place_inside(group, left, tree)
        if placed is not None:
            return placed
    return None


def _domains(group: Group, slots: Ints, tree: Ints) -> list[np.ndarray]:
    """Return the domains in which a group may stand, as masks of nodes, the best first."""
    widest = len(tree) - 1 if group.required is None else group.required
    deepest = widest if group.preferred is None else min(group.preferred, widest)
    masks = []
    for level in range(deepest, widest + 1):
        room = totals(tree[level], slots)
        fits = np.flatnonzero(room >= max(minimum_pods(group), 1))
        masks += [tree[level] == domain for domain in fits[np.argsort(room[fits], kind="stable")]]
    return masks


def _place_inside(group: Group, slots: Ints, tree: Ints) -> dict[str, Ints] | None:
    if not group.children:
        near = tree[group.preferred or 0]
        nodes = fill(node_order(np.arange(len(slots)), slots, near), slots, group.least)
        return None if nodes is None else {group.name: nodes}
    placed: dict[str, Ints] = {}
    left, done = slots.copy(), 0
    for child in group.children:
        if done == group.least:
            break
        part = place_group(child, left, tree)
        if part is not None:
            placed |= part
            for taken in part.values():
                np.subtract.at(left, taken, 1)
            done += 1
    return placed if done == group.least else None


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
