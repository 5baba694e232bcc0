"""Volcano's gang plugin with bin packing."""

from __future__ import annotations

import numpy as np

from gpuyard.envs.cluster_view import ClusterView, Plan

from ..placement import Placement
from ..room import GPUs, Room
from .scheduler import Scheduler
from .starting import next_start


class TaskByTask(Placement):
    """Bin packing of tasks, all or none."""

    def fit(self, room: Room, gang: np.void, pool: int) -> GPUs | None:
        """Return the GPUs of a statement that commits."""
        return allocate(room, gang, pool)


class Volcano(Scheduler):
    """Tasks of a gang are bound one by one, and kept only if all of them were bound.

    Source: Volcano 1.x, actions ``allocate`` with plugins ``priority``, ``gang`` and ``binpack``.
    Jobs by priority, then age (of equal priority, unready jobs come before ready ones; every
    pending gang is unready, its ``minAvailable`` being all of its tasks). A task is
    a node's worth of GPUs; each goes to the node of the highest score (used + request) /
    allocatable x 100. A statement records them: it commits when ``minAvailable`` are bound, else
    it is discarded and the next job has its turn. Nobody is preempted: the plugin lets a job lose
    a task only while as many as ``minAvailable`` stay.

    Domains of the level that a gang requires are tried in their order, as hard topology.
    """

    placement = TaskByTask()

    def plan(self, view: ClusterView) -> Plan | None:
        """Start the first gang whose statement commits."""
        order = np.lexsort((view.pending["arrival_s"], -view.pending["priority"]))
        return next_start(view, self.placement, np.argsort(order).astype(float))


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
