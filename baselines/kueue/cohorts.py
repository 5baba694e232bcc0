"""Quotas of a tree of queues, who borrows from whom, and what is in use.

Source: Kueue, KEP 79 (hierarchical cohorts), KEP 1224 (lendingLimit), ``resource_node.go``, and KEP
1714 with ``fair_sharing.go`` for the share. ClusterQueues are the leafs, cohorts the inner nodes;
a cohort's own nominal quota is a pool for all below it. A node keeps its quota beyond its lending
limit to itself; the rest, and use beyond what is kept, counts at its parent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import inf

Share = tuple[bool, float]
"""Orders nodes by what they borrow: whether without weight, then borrowed / lendable / weight."""


class Cohorts:
    """A forest of queues with quotas in GPUs, and the GPUs in use at each node.

    Attributes:
        parent: of each node, -1: none.
        nominal: GPUs that each node brings in.
        quota: GPUs that the node and those below it own and show to each other.
        used: GPUs in use that count against ``quota``.
    """

    def __init__(
        self,
        parent: Sequence[int],
        nominal: Sequence[float],
        borrowing: Sequence[float] | None = None,
        lending: Sequence[float] | None = None,
        weight: Sequence[float] | None = None,
    ) -> None:
        """Build the forest, with nothing in use.

        Args:
            parent: of each node, -1: none; no circles.
            nominal: GPUs that each node brings in.
            borrowing: GPUs that it may use beyond its quota; by default without limit.
            lending: GPUs that others may use of its quota; by default all.
            weight: of its share, by default 1.
        """
        size = len(parent)
        self.parent, self.nominal = tuple(parent), tuple(nominal)
        self.borrowing = tuple(borrowing or [inf] * size)
        self.lending = tuple(lending or [inf] * size)
        self.weight = tuple(weight or [1.0] * size)
        self.children: tuple[list[int], ...] = tuple([] for _ in parent)
        for node, above in enumerate(parent):
            if above >= 0:
                self.children[above].append(node)
        self.quota = [float(gpus) for gpus in nominal]
        for node in sorted(range(size), key=self._depth, reverse=True):
            if self.parent[node] >= 0:
                self.quota[self.parent[node]] += self.quota[node] - self.kept(node)
        self.used = [0.0] * size

    def copy(self) -> Cohorts:
        """Return the same forest with use of its own."""
        twin = object.__new__(Cohorts)
        twin.__dict__.update(self.__dict__)
        twin.used = list(self.used)
        return twin

    def _depth(self, node: int) -> int:
        return sum(1 for _ in self.above(node))

    def above(self, node: int) -> Iterator[int]:
        """Yield the cohorts of a node, from its own to the root."""
        while (node := self.parent[node]) >= 0:
            yield node

    def kept(self, node: int) -> float:
        """Return the quota that a node does not lend, in GPUs."""
        return max(0.0, self.quota[node] - self.lending[node])

    def spare(self, node: int) -> float:
        """Return what is unused of the quota that a node keeps to itself, in GPUs."""
        return max(0.0, self.kept(node) - self.used[node])

    def add(self, node: int, gpus: float) -> None:
        """Count GPUs as in use."""
        beyond = gpus - self.spare(node)
        self.used[node] += gpus
        if beyond > 0 and self.parent[node] >= 0:
            self.add(self.parent[node], beyond)

    def remove(self, node: int, gpus: float) -> None:
        """Count GPUs as in use no more."""
        beyond = self.used[node] - self.kept(node)
        self.used[node] -= gpus
        if beyond > 0 and self.parent[node] >= 0:
            self.remove(self.parent[node], min(gpus, beyond))

    def available(self, node: int) -> float:
        """Return the GPUs that a node may use on top of what it does, borrowing included."""
        above = self.parent[node]
        if above < 0:
            return self.quota[node] - self.used[node]
        kept = self.kept(node)
        shown = self.quota[node] - kept - max(0.0, self.used[node] - kept)
        return self.spare(node) + min(self.available(above), shown + self.borrowing[node])

    def capacity(self, node: int) -> float:
        """Return the GPUs that a node could use if nobody used any."""
        above = self.parent[node]
        if above < 0:
            return self.quota[node]
        most = self.kept(node) + self.capacity(above)
        return min(most, self.quota[node] + self.borrowing[node])

    def within(self, node: int, more: float = 0.0) -> bool:
        """Return whether a node uses no more than its quota, with ``more`` GPUs."""
        return self.used[node] + more <= self.quota[node]

    def share(self, node: int) -> Share:
        """Return the dominant resource share of a node, of GPUs only.

        What it uses beyond its quota, over what its parent could lend, over its weight; a node
        without weight that borrows comes after all others.
        """
        borrowed = self.used[node] - self.quota[node]
        if self.parent[node] < 0 or borrowed <= 0:
            return (False, 0.0)
        lendable = self.capacity(self.parent[node])
        ratio = borrowed / lendable if lendable > 0 else 0.0
        weight = self.weight[node]
        return (False, ratio / weight) if weight > 0 else (True, ratio)

    def below_common(self, one: int, other: int) -> tuple[int, int]:
        """Return the last nodes on the ways from two queues to where they meet (AlmostLCA).

        Raises:
            ValueError: they never meet.
        """
        way = [one, *self.above(one)]
        for mine, theirs in zip([other, *self.above(other)], self.above(other), strict=False):
            if theirs in way[1:]:
                return way[way.index(theirs) - 1], mine
        raise ValueError(f"queues {one} and {other} share no cohort")
