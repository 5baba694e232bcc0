"""Volcano: queues by share, jobs by priority, gangs by bin packing; preempt and reclaim."""

from __future__ import annotations

from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gpuyard.envs.cluster_view import DOWN, ClusterView, Plan

from ..placement import Placement
from ..quota import volcano
from ..quota.tree import below, chain
from ..room import GPUs, Room, startable
from .evicting import make_room
from .scheduler import Scheduler
from .starting import next_start
from .volcano_victims import below_it, by_deserved, by_drf

MODES = ("auto", "capacity", "proportion", "drf")


class TaskByTask(Placement):
    """Bin packing of tasks, all or none."""

    def fit(self, room: Room, gang: np.void, pool: int) -> GPUs | None:
        """Return the GPUs of a statement that commits."""
        return allocate(room, gang, pool)


class Volcano(Scheduler):
    """Tasks of a gang are bound one by one, and kept only if all of them were bound.

    Source: Volcano 1.x, actions ``allocate``, ``preempt`` and ``reclaim`` with plugins
    ``priority``, ``gang``, ``binpack`` and ``capacity`` or ``proportion`` (docs/design).

    Allocate: queues by their priority, then held / deserved, layer by layer from the root; of a
    queue jobs by priority, then age (of equal priority, unready jobs come before ready ones; every
    pending gang is unready, its ``minAvailable`` being all of its tasks). A task is
    a node's worth of GPUs; each goes to the node of the highest score (used + request) /
    allocatable x 100. A statement records them: it commits when ``minAvailable`` are bound, else
    it is discarded and the next job has its turn. Domains of the level that a gang requires are
    tried in their order, as hard topology.

    Then, where the scenario allows preemption, gangs in that order preempt ones of lower priority
    in their queue; and reclaim, if their queue stays within what it deserves, from queues that hold
    more than they do, but never their guarantee. Gangs are stopped as a whole, as with
    ``enablePreemptable: false`` for the gang plugin (else no gang whose ``minAvailable`` is all of
    its tasks could lose one), the lowest priority and the latest start first, and domain by domain
    (:mod:`.evicting`; issues 4374 and 4533). A gang that lost a node returns to its place in this
    order.

    Args:
        queues: who deserves what: "capacity", what the scenario says, or "proportion", the
            cluster by weights; "auto": the former if any queue deserves something. "drf": nobody
            deserves anything, the lowest dominant share over weight goes first, and reclaims while
            its share stays at or below the victim's (plugin drf; GPUs are the only resource).
    """

    placement = TaskByTask()

    def __init__(
        self, *, queues: Literal["auto", "capacity", "proportion", "drf"] = "auto"
    ) -> None:
        if queues not in MODES:
            raise ValueError(f"volcano: queues = {queues!r} must be one of {', '.join(MODES)}")
        self.queues = queues

    def plan(self, view: ClusterView) -> Plan | None:
        """Start the first gang whose statement commits; else preempt, else reclaim."""
        deserved = self.deserved(view)  # in mode drf what the share is taken of
        pending = view.pending
        keys = [queue_key(view, deserved, int(tenant)) for tenant in pending["tenant"]]
        ranks = {key: rank for rank, key in enumerate(sorted(set(keys)))}
        queue_rank = np.array([ranks[key] for key in keys], int)
        order = np.lexsort((pending["arrival_s"], -pending["priority"], queue_rank))
        plan = next_start(view, self.placement, np.argsort(order).astype(float))
        if plan is not None or not view.preemption:
            return plan
        running = view.running[view.running["blocked"] == 0]
        running = running[np.lexsort((-running["start_s"], running["priority"]))]
        room = Room(view)
        for offers in (below_it, by_drf if self.queues == "drf" else by_deserved):
            for row in order[pending["blocked"][order] == 0]:
                gang, speeds = pending[row], view.speeds[row]
                victims, choose = offers(view, deserved, gang, running)
                check = partial(_keeps_limits, view, gang)
                plan = make_room(view, self.placement, room, gang, speeds, victims, choose, check)
                if plan is not None:
                    return plan
        return None

    def deserved(self, view: ClusterView) -> NDArray[np.float64]:
        """Return what every queue deserves, or the cluster by its weight, float64 (queues,)."""
        table = view.queues
        if self.queues == "drf":
            return float((view.gpu_job != DOWN).sum()) * table["weight"]
        if self.queues == "capacity" or (self.queues == "auto" and table["deserved"].any()):
            return table["deserved"].astype(float)
        own = np.zeros(len(table))
        for gangs in (view.pending, view.running):
            own += np.bincount(gangs["tenant"], gangs["gpus"], minlength=len(table))
        usable = float((view.gpu_job != DOWN).sum())
        deserved, requested = np.zeros(len(table)), below(table["parent"], own)

        def divide(around: int, total: float) -> None:
            rows = np.flatnonzero(table["parent"] == around)
            if len(rows):
                some = table[rows]
                deserved[rows] = volcano.proportion(
                    total, some["weight"], requested[rows], some["limit"], some["guarantee"]
                )
                for row in rows:
                    divide(int(row), float(deserved[row]))

        divide(-1, usable)
        return deserved


def queue_key(
    view: ClusterView, deserved: NDArray[np.float64], queue: int
) -> tuple[tuple[float, float], ...]:
    """Return the key of a queue, the lowest first: priority and share of each from the root."""
    key = []
    for at in chain(view.queues["parent"], queue)[::-1]:
        held = float(view.queues["held"][at])
        share = held / deserved[at] if deserved[at] else float(held > 0)
        key.append((-float(view.queues["priority"][at]), share))
    return tuple(key)


def _keeps_limits(view: ClusterView, gang: np.void, stopped: tuple[int, ...], _: GPUs) -> bool:
    return startable(view, gang, stopped)


class Statement:
    """Tentative bindings of one gang's tasks."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.bound: list[GPUs] = []

    def allocate(self, node: int, gpus: int) -> None:
        """Bind a task to a node."""
        taken = self.room.gpus_on(np.array([node]), np.array([gpus]))
        self.room.take(taken)
        self.bound.append(taken)

    def commit(self) -> GPUs:
        """Return the GPUs of all tasks."""
        return np.concatenate(self.bound)

    def discard(self) -> None:
        """Undo every binding."""
        for taken in self.bound:
            self.room.release(taken)


def allocate(room: Room, gang: np.void, pool: int) -> GPUs | None:
    """Return the GPUs of a gang whose tasks all found a node, or None."""
    per_node = room.cluster.pools[pool].gpus_per_node
    size = int(gang["gpus"])
    whole, rest = divmod(size, min(size, per_node))
    tasks = [min(size, per_node)] * whole + [rest] * (rest > 0)
    domain = room.tree[int(gang["required"])]
    in_pool = room.cluster.node_pool == pool
    for name in np.unique(domain[in_pool & (room.node_free >= tasks[0])]):
        nodes = np.flatnonzero(in_pool & (domain == name))
        if room.node_free[nodes].sum() < size:
            continue
        statement = Statement(room)
        for task in tasks:
            score = binpack(room.node_free[nodes], task, per_node)
            if score.max() < 0:
                statement.discard()
                break
            statement.allocate(int(nodes[score.argmax()]), task)
        else:
            return statement.commit()
    return None


def binpack(free: np.ndarray, request: int, allocatable: int) -> np.ndarray:
    """Return Volcano's score of each node for a task, 0 to 100; -1 where it does not fit."""
    used = allocatable - free
    return np.where(free >= request, 100.0 * (used + request) / allocatable, -1.0)
