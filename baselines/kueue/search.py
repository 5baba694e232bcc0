"""Whom a gang stops, and where it goes then: quota and topology asked together.

Kueue's order of candidates knows no topology, so that victims may free GPUs all over the cluster
and no domain that holds the gang (Kueue issues 5243, 10497 and 10815). It is tried first, with the
placement asked after each removal. If it finds no set, candidates are held to one domain after
another, those that clear it with the fewest gangs first, as ``tas_ordering.go`` does for nodes; a
domain of any level up to the required one counts here, so that a leaf full of lower gangs can be
cleared too (KAI issue 1591).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpuyard.envs.cluster_view import ClusterView, Plan

from ..placement import Placement
from ..room import NODE, GPUs, Room
from .cohorts import Cohorts
from .preemption import Workload

RETRIES = 8
"""Domains of one level that are tried (``maxTASDomainRetries``)."""

Rule = Callable[..., list[Workload]]
"""``preemption.classic`` or ``fair.fair`` with the policies of the newcomer's queue."""


@dataclass
class Scope:
    """Where victims may be.

    Attributes:
        gangs: that may be stopped.
        inside: bool (N,), nodes on which the newcomer is placed.
        rank: of each node, those to be cleared first are lowest.
    """

    gangs: list[Workload]
    inside: NDArray[np.bool_]
    rank: NDArray[np.int64]


class Search:
    """The search for victims in one view.

    Args:
        view: the cluster.
        room: what is free as it is.
        placement: where gangs go.
    """

    def __init__(self, view: ClusterView, room: Room, placement: Placement) -> None:
        self.view, self.room, self.placement = view, room, placement
        self.held = view.gpu_job.reshape(room.free.shape)

    def plan(
        self,
        rule: Rule,
        cohorts: Cohorts,
        newcomer: Workload,
        gangs: list[Workload],
        gang: np.void,
        speeds: NDArray[np.float64],
    ) -> Plan | None:
        """Return the plan that stops the fewest that the rule finds and starts a gang, or None.

        Args:
            rule: see :data:`Rule`.
            cohorts: with the use of all that runs.
            newcomer: the gang as quotas see it.
            gangs: running gangs that it may stop.
            gang: entry of ``ClusterView.pending``.
            speeds: its row of ``ClusterView.speeds``.
        """
        nodes = {g.name: np.flatnonzero((self.held == g.name).any(axis=1)) for g in gangs}
        short_of_room = False
        for scope in self._scopes(gangs, nodes, gang, speeds):

            def placed(removed: list[Workload], scope: Scope = scope) -> bool:
                nonlocal short_of_room
                short_of_room = True  # the quota lets it in
                return self._place(removed, scope, gang, speeds) is not None

            def rank(one: Workload, scope: Scope = scope) -> float:
                return float(scope.rank[nodes[one.name]].min())

            if self._place(scope.gangs, scope, gang, speeds) is None:
                continue
            found = rule(cohorts, newcomer, scope.gangs, placed=placed, rank=rank)
            if found:
                gpus = self._place(found, scope, gang, speeds)
                assert gpus is not None, "the rule asked for it"
                stop = tuple(sorted(one.name for one in found))
                return self.placement.commit(self._room(found), gang, gpus, stop)
            if not short_of_room:
                break  # fewer candidates free no more quota
        return None

    def _place(
        self, removed: list[Workload], scope: Scope, gang: np.void, speeds: NDArray[np.float64]
    ) -> GPUs | None:
        """Return where the gang goes inside a scope without some others, or None."""
        free = int(self.room.node_free[scope.inside].sum())
        if free + sum(one.gpus for one in removed) < gang["gpus"]:
            return None
        return self.placement.place(self._room(removed, scope), gang, speeds)

    def _room(self, removed: list[Workload], scope: Scope | None = None) -> Room:
        """Return what is free once gangs are gone, inside a scope."""
        room = self.room.without(self.view, (one.name for one in removed))
        return room if scope is None or scope.inside.all() else room.only(scope.inside[:, None])

    def _scopes(
        self,
        gangs: list[Workload],
        nodes: dict[int, NDArray[np.int64]],
        gang: np.void,
        speeds: NDArray[np.float64],
    ) -> Iterator[Scope]:
        """Yield the whole cluster in Kueue's own order, and then domain by domain."""
        usable = np.isin(self.room.cluster.node_pool, np.flatnonzero(speeds > 0))
        yield Scope(gangs, np.ones_like(usable), np.zeros(len(usable), np.int64))
        freed, members = np.where(usable, self.room.node_free, 0), np.zeros(len(usable), int)
        for one in gangs:
            on = nodes[one.name]
            freed[on] += usable[on] * (self.held[on] == one.name).sum(axis=1)
            members[on] += 1
        rank = np.argsort(np.lexsort((np.arange(len(usable)), members, -freed)))
        for level in range(NODE, int(gang["required"]) + 1):
            domain = self.room.tree[level]
            found = []
            for name in np.flatnonzero(np.bincount(domain, freed) >= gang["gpus"]):
                inside = usable & (domain == name)
                within = [one for one in gangs if inside[nodes[one.name]].any()]
                found.append((len(within), int(name), Scope(within, inside, rank)))
            found.sort(key=lambda one: one[:2])
            yield from (scope for _, _, scope in found[:RETRIES])
