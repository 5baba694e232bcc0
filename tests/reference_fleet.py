"""The replicas of the naive reference: how they are added and taken away."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from reference_replica import (
    DRAINING,
    OFF,
    QUEUED,
    SERVING,
    STARTING,
    TURNING,
    ClusterReplica,
    Role,
)
from reference_steps import Result


@dataclass(frozen=True)
class Scaling:
    """When replicas are decided about, and how: decision k takes candidate ``script(k)``.

    Candidate 0 keeps all; 1 and 2 add a replica to the first role and take one away, and so on.
    With two roles two more let a replica of the first one turn to the second, and the other way.
    """

    interval_s: float
    max_changes: int
    script: Callable[[int], int]


@dataclass(frozen=True)
class Change:
    """Replicas get devices, each from a GPU on, or with no GPUs lose them.

    That is by a node's failure, or to another gang, which is a decision: it comes after all else.

    Attributes:
        time_s, replicas, gpus: when, which, and where.
        uplinks: that GPUs reserve.
        decisions: about replicas, made before: gangs are placed between two of one moment, too.
        preempted: whether another gang has the devices now.
    """

    time_s: float
    replicas: tuple[int, ...]
    gpus: tuple[int, ...]
    uplinks: Mapping[int, int] = field(default_factory=dict)
    decisions: int = 0
    preempted: bool = False


class Fleet:
    """The replicas of one service, and the decisions how many there are."""

    def __init__(
        self,
        roles: Sequence[Role],
        result: Result,
        scaling: Scaling | None,
        history: Sequence[Change] | None,
        asked_at_s: float,
    ) -> None:
        self.roles, self.scaling = roles, scaling
        self.history = None if history is None else list(history)
        owners = [role for role in roles for _ in range(role.most)]
        self.replicas = [ClusterReplica(r, role, result) for r, role in enumerate(owners)]
        self.now, self.scale_decisions = 0.0, 0
        self.tick_s = scaling.interval_s if scaling else math.inf
        self.asked_at_s, self.asked = asked_at_s, False
        self.due = False  # parked requests are to be routed again

    def ask(self) -> None:
        """Ask for the service, with the replicas that it has from the start."""
        self.asked = True
        for role in self.roles:
            for replica in self.row(role)[: role.initial]:
                self.add(replica)

    def place_waiting(self) -> None:
        """Let those get devices that got them before the next decision about replicas."""

    def row(self, role: Role) -> list[ClusterReplica]:
        """Return the replicas of a role."""
        return [replica for replica in self.replicas if replica.role is role]

    def tick(self) -> None:
        """Decide about replicas until the round is over."""
        assert self.scaling is not None
        self.tick_s += self.scaling.interval_s
        for _ in range(self.scaling.max_changes):
            self.place_waiting()
            if not any(self.to_add(role) or self.to_take(role) for role in self.roles):
                return
            candidate = self.scaling.script(self.scale_decisions)
            self.scale_decisions += 1
            if candidate == 0:
                return
            if candidate > 2 * len(self.roles):
                first = candidate - 1 - 2 * len(self.roles)
                if not self.turn(self.roles[first], self.roles[1 - first]):
                    return
                continue
            role = self.roles[(candidate - 1) // 2]
            is_add = candidate % 2 == 1
            replica = self.to_add(role) if is_add else self.to_take(role)
            if replica is None:
                return
            if is_add:
                self.add(replica)
            else:
                self.take(replica)

    def to_add(self, role: Role) -> ClusterReplica | None:
        """Return the first replica of a role that there is not; none before it is asked for."""
        if not self.asked:
            return None
        row = self.row(role)[role.least :]
        return next((replica for replica in row if replica.books.phase == OFF), None)

    def to_take(self, role: Role) -> ClusterReplica | None:
        """Return the last one that waits or loads, or else the first with the least to do."""
        row = self.row(role)[role.least :]
        loading = [replica for replica in row if replica.books.phase in (QUEUED, STARTING)]
        serving = [replica for replica in row if replica.books.phase == SERVING]
        if loading:
            return loading[-1]
        return min(serving, key=lambda replica: replica.load, default=None)

    def turn(self, giver: Role, taker: Role) -> bool:
        """Let a replica become one of another role once it has drained; False if none can."""
        serving = [it for it in self.row(giver)[giver.least :] if it.books.phase == SERVING]
        heir = self.to_add(taker)
        if not serving or heir is None:
            return False
        replica = min(serving, key=lambda replica: replica.load)
        replica.books.heir, heir.books.phase = heir, TURNING
        self.take(replica)
        return True

    def add(self, replica: ClusterReplica) -> None:
        """Ask for a replica."""
        replica.books.phase = QUEUED
        if self.history is None:
            self.load(replica)

    def load(self, replica: ClusterReplica) -> None:
        """Let a replica load."""
        replica.books.phase = STARTING
        replica.books.ready_s = self.now + replica.role.startup_s

    def take(self, replica: ClusterReplica) -> None:
        """Let a replica take no more requests; one with nothing to do is gone at once."""
        if replica.books.phase == SERVING:
            replica.books.phase = DRAINING
            self.end_drained()
        else:
            is_awaited = replica.books.phase == STARTING and replica.role.farthest != "zone"
            self.due = self.due or is_awaited
            replica.empty()

    def end_drained(self) -> None:
        """End the draining replicas that have nothing left, KV caches included."""
        for replica in self.replicas:
            books = replica.books
            if books.phase == DRAINING and replica.load + len(books.holding) == 0:
                if books.heir is not None:
                    books.heir.uplinks = replica.uplinks
                replica.empty()
                if books.heir is not None:
                    self.inherit(books.heir, replica.gpu)

    def inherit(self, heir: ClusterReplica, gpu: int) -> None:
        """Let a replica go on with the devices of one of another role, which has drained."""
        heir.gpu, heir.books.phase = gpu, STARTING
        heir.books.ready_s = self.now + heir.role.change_s
        if heir.role.change_s == 0:
            self.come_up(heir)

    def come_up(self, replica: ClusterReplica) -> None:
        """Let a replica serve."""
        replica.books.phase = SERVING
