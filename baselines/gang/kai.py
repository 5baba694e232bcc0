"""KAI Scheduler's cycle: allocate, consolidate, reclaim, preempt."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from numpy.typing import NDArray

from gpuyard.envs.cluster_view import DOWN, FREE, ClusterView, Plan

from ..quota import kai, tree
from ..room import GPUs, Room, startable
from ..routing.router import check_at_least
from .evicting import make_room
from .remembering import Remembering

Action = Callable[[ClusterView, Room, kai.Shares, NDArray[np.void], int], Plan | None]
Moves = dict[int, GPUs]  # gangs that consolidation has stopped, and where each goes on
MOST_MOVED = 16  # gangs that one consolidation looks at (KAI: MaxNumberConsolidationPreemptees)


class KAIFairShare(Remembering[Moves]):
    """Queues by fair share; what does not fit moves, reclaims or preempts, in that order.

    Source: KAI Scheduler (Apache-2.0), docs/fairness, docs/developer/action-framework and its
    actions, 2025. Each cycle divides the cluster into fair shares (:mod:`..quota.kai`), orders
    queues by them and gangs of a queue by priority, then age, and takes the first action that is
    possible:

    1. allocate: the first gang in order that fits;
    2. consolidation: the first that fits if others move, all of whom have somewhere to go;
    3. reclaim: the first that may take from queues that are over their share;
    4. preempt: the first that may stop gangs of lower priority in its queue.

    The last three only where the scenario allows preemption. What they free is tried out domain by
    domain, as KAI issue 1591 asks for (:mod:`.evicting`). Protected gangs are never stopped, and
    where queues deserve anything they start only within their quota. A gang that has lost its node
    or its GPUs returns to its place in the order, by priority and arrival; one that was moved finds
    its new GPUs reserved.

    Ours: a plan starts one gang, so shares are counted anew before each start.

    Args:
        consolidation: whether gangs are moved.
        min_runtime_s: a run is safe from all of this for so long (plugin minruntime; KAI: 0).
    """

    def __init__(self, *, consolidation: bool = True, min_runtime_s: float = 0.0) -> None:
        self.consolidation = consolidation
        self.min_runtime_s = check_at_least("kai-fair-share", "min_runtime_s", min_runtime_s, 0.0)
        self.memories = [self.fresh()]  # of a single world

    def fresh(self) -> Moves:
        """Return that nobody moves."""
        return {}

    def plan_for(self, index: int, view: ClusterView) -> Plan | None:
        """Return the first action that is possible."""
        moves = self.memories[index]
        room = Room(view)
        plan = self._resume(view, room, moves)
        if plan is not None:
            return plan
        for gpus in moves.values():
            room.take(gpus)
        shares = shares_of(view)
        order = kai.gang_order(
            shares, view.pending["tenant"], view.pending["gpus"], priority_then_age(view.pending)
        )
        rows = [row for row in order if self._may_start(view, shares, view.pending[row])]
        plan = self._allocate(view, room, rows)
        if plan is not None or not view.preemption:
            return plan
        safe = view.now_s - view.running["start_s"] < self.min_runtime_s
        victims = view.running[(view.running["blocked"] == 0) & ~safe]
        last_first = (-victims["start_s"], victims["is_base"], victims["priority"])
        victims = victims[np.lexsort(last_first)]
        actions: list[Action] = [self._reclaim, self._preempt]
        if self.consolidation:
            actions.insert(0, partial(self._consolidate, moves))
        for action in actions:
            plan = _first(view, rows, partial(action, view, room, shares, victims))
            if plan is not None:
                return plan
        return None

    def _resume(self, view: ClusterView, room: Room, moves: Moves) -> Plan | None:
        """Return the start of a gang that has moved; forget those whose GPUs are gone."""
        for name, gpus in list(moves.items()):
            rows = np.flatnonzero(view.pending["id"] == name)
            if not len(rows) or (view.gpu_job[gpus] != FREE).any():
                del moves[name]
                continue
            gang, row = view.pending[rows[0]], int(rows[0])
            if startable(view, gang):
                del moves[name]
                at = np.isin(np.arange(room.free.size), gpus).reshape(room.free.shape)
                found = self.placement.place(room.only(at), gang, view.speeds[row])
                if found is not None:
                    return self.placement.commit(room, gang, found)
        return None

    def _may_start(self, view: ClusterView, shares: kai.Shares, gang: np.void) -> bool:
        """Return whether it is not held back, and if it is protected, stays within the quota."""
        bound = gang["protected"] and shares.deserved.any()
        inside = not bound or kai.within_quota(shares, int(gang["tenant"]), float(gang["gpus"]))
        return bool(inside and not gang["blocked"])

    def _allocate(self, view: ClusterView, room: Room, rows: list[int]) -> Plan | None:
        def start(row: int) -> Plan | None:
            gang = view.pending[row]
            if gang["gpus"] > room.node_free.sum() or not startable(view, gang):
                return None
            gpus = self.placement.place(room, gang, view.speeds[row])
            return None if gpus is None else self.placement.commit(room, gang, gpus)

        return _first(view, rows, start)

    def _consolidate(
        self,
        moves: Moves,
        view: ClusterView,
        room: Room,
        shares: kai.Shares,
        victims: NDArray[np.void],
        row: int,
    ) -> Plan | None:
        gang = view.pending[row]
        if gang["gpus"] > room.node_free.sum() or not startable(view, gang):
            return None
        found: Moves = {}

        def all_move(stopped: tuple[int, ...], gpus: GPUs) -> bool:
            """Return whether everybody who is stopped has somewhere to go on."""
            trial = room.without(view, stopped)
            trial.book(gpus)
            found.clear()
            for name in stopped:
                at = int(np.flatnonzero(view.running["id"] == name)[0])
                goes_to = self.placement.place(trial, view.running[at], view.running_speeds[at])
                if goes_to is None:
                    return False
                trial.book(goes_to)
                found[name] = goes_to
            return True

        plan = make_room(
            view,
            self.placement,
            room,
            gang,
            view.speeds[row],
            victims,
            lambda some: range(min(len(some), MOST_MOVED)),
            all_move,
        )
        if plan is not None:
            all_move(plan.preempt, np.asarray(plan.gpus))
            moves.update(found)
        return plan

    def _reclaim(
        self,
        view: ClusterView,
        room: Room,
        shares: kai.Shares,
        victims: NDArray[np.void],
        row: int,
    ) -> Plan | None:
        gang = view.pending[row]
        queue, gpus, protected = int(gang["tenant"]), float(gang["gpus"]), bool(gang["protected"])
        if not kai.may_reclaim(shares, queue, gpus, protected):
            return None
        owned = {int(v["id"]): (int(v["tenant"]), float(v["gpus"])) for v in victims}

        def allowed(stopped: tuple[int, ...], _: GPUs) -> bool:
            taken = [owned[name] for name in stopped]
            return kai.reclaimable(shares, queue, gpus, taken, protected) and startable(
                view, gang, stopped
            )

        return make_room(
            view,
            self.placement,
            room,
            gang,
            view.speeds[row],
            victims[victims["tenant"] != queue],
            lambda some: kai.reclaim_order(
                shares, queue, gpus, [owned[int(name)] for name in some["id"]]
            ),
            allowed,
        )

    def _preempt(
        self,
        view: ClusterView,
        room: Room,
        shares: kai.Shares,
        victims: NDArray[np.void],
        row: int,
    ) -> Plan | None:
        gang = view.pending[row]
        lower = (victims["tenant"] == gang["tenant"]) & (victims["priority"] < gang["priority"])
        return make_room(
            view,
            self.placement,
            room,
            gang,
            view.speeds[row],
            victims[lower],
            lambda some: range(len(some)),
            lambda stopped, _: startable(view, gang, stopped),
        )


def priority_then_age(gangs: NDArray[np.void]) -> NDArray[np.float64]:
    """Return the rank of every gang inside its queue: higher priority first, then the older."""
    order = np.lexsort((gangs["arrival_s"], -gangs["priority"]))
    return np.argsort(order).astype(float)


def shares_of(view: ClusterView) -> kai.Shares:
    """Return the queues of a view with their fair shares."""
    queues = view.queues
    parent = queues["parent"]

    def below(gangs: NDArray[np.void]) -> NDArray[np.float64]:
        own = np.bincount(gangs["tenant"], gangs["gpus"], minlength=len(queues))
        return tree.below(parent, own.astype(float))

    requested = np.minimum(below(view.pending) + queues["held"], queues["limit"])
    deserved, priority = queues["deserved"].astype(float), queues["priority"]
    usable = float((view.gpu_job != DOWN).sum())
    return kai.Shares(
        parent=parent,
        deserved=deserved,
        fair=kai.fair_shares(usable, parent, deserved, requested, queues["weight"], priority),
        held=queues["held"].astype(float),
        held_protected=below(view.running[view.running["protected"] == 1]),
        priority=priority,
    )


def _first(
    view: ClusterView, rows: list[int], attempt: Callable[[int], Plan | None]
) -> Plan | None:
    """Return the first plan of some pending gangs; gangs that are alike are tried once."""
    alike = ("gpus", "tenant", "priority", "protected", "required", "preferred")
    failed = set()

    def distinct() -> Iterator[int]:
        for row in rows:
            shape = (*(view.pending[name][row] for name in alike), view.speeds[row].tobytes())
            if shape not in failed:
                failed.add(shape)
                yield row

    return next((plan for plan in map(attempt, distinct()) if plan is not None), None)
