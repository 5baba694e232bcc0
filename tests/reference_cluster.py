"""Services on a cluster once more: naive, event by event, as the known answer for the engine.

One Python object per replica, which steps iteration by iteration (``reference_serving.py``), lists
of parked and travelling requests, and a loop that always handles the earliest event. It shares no
code with the engine. Conventions where the words of a specification leave room:

* At one moment replicas come up and steps end, then KV caches arrive. Then parked requests are
  routed, in order, if a replica came up or a prompt is computed; then replicas are decided about,
  then gangs are placed, what preempted replicas hand back is routed, and requests arrive. An idle
  replica begins a step after all of that.
* A rule stands for the policy: of the replicas that can take request ``i`` the ``i``-th does,
  modulo their number; decisions about replicas follow a script.
* Which gang of replicas gets devices when and where, and loses them, is given: a history. Without
  one all stand on one node with room for all of them, and have devices at once. When and where
  gangs start is given too; what they and KV transfers do to each other is not.
* A request that was sent to a replica and holds no blocks goes before those that come from a
  prefill replica, one that has not yet reached its engine, too.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from reference_fleet import Change, Fleet, Scaling
from reference_kv import Request
from reference_network import Flow, Gang, Network, Wires
from reference_replica import (
    DRAINING,
    OFF,
    QUEUED,
    STARTING,
    ClusterReplica,
    Role,
    Traveller,
)
from reference_serving import Result


class Cluster(Fleet):
    """One service: the router, transfers, failures and the clock; replicas are the fleet's."""

    def __init__(
        self,
        roles: Sequence[Role],
        requests: Sequence[Request],
        max_tokens: Sequence[int],
        scaling: Scaling | None,
        history: Sequence[Change] | None,
        wires: Wires,
        gangs: Sequence[Gang] = (),
        asked_at_s: float = 0.0,
    ) -> None:
        n = len(requests)
        self.result = Result([math.nan] * n, [math.nan] * n, [-1] * n, [0] * n, [], [])
        self.requests = [
            Traveller(i, request, max_tokens=most)
            for i, (request, most) in enumerate(zip(requests, max_tokens, strict=True))
        ]
        self.to_arrive = list(self.requests)
        self.parked: list[Traveller] = []
        self.due = False  # parked requests are to be routed again
        self.preempted = False  # because a decision about gangs has taken devices from replicas
        self.moving: list[Traveller] = []
        self.failures = 0  # that took devices from replicas
        super().__init__(roles, self.result, scaling, history, asked_at_s)
        ports = {
            (replica.number, inside): bytes_per_s
            for replica in self.replicas
            for inside, bytes_per_s in enumerate(
                (replica.role.nic_bytes_per_s, replica.role.bytes_per_s)
            )
        }
        self.network = Network(wires, list(gangs), ports)

    def run(self) -> Result:
        """Serve all requests and let all gangs finish."""
        while self.is_open():
            self.now, _, _, handle = min(self.events(), key=lambda event: event[:3])
            self.network.advance(self.now)
            handle()
            self.reserve_all()
            self.end_drained()
            self.network.share()
        return self.result

    def is_open(self) -> bool:
        """Tell whether anything is left to do."""
        ends = [*self.result.finish_s, *(gang.finish_s for gang in self.network.gangs)]
        return any(math.isnan(finish_s) for finish_s in ends)

    def events(self) -> list[tuple[float, float, int, Callable[[], None]]]:
        """Return all that may happen next: when, its rank at one moment, which, and what to do."""
        found: list[tuple[float, float, int, Callable[[], None]]] = []
        for replica in self.replicas:
            r = replica.number
            if replica.books.phase == STARTING:
                found.append((replica.books.ready_s, 0, r, lambda it=replica: self.come_up(it)))
            if replica.end_s < math.inf:
                found.append((replica.end_s, 0, r, lambda it=replica: self.step(it)))
            start_s = self.after_decision(replica.next_start_s())
            if start_s < math.inf:
                found.append((start_s, 5, r, lambda it=replica: it.start(self.now)))
        for seq in self.moving:
            if seq.flow is None:
                found.append((seq.begin_s, -1, 0, lambda it=seq: self.begin(it)))
            else:
                end_s, index = self.network.end_s(seq.flow), seq.index
                found.append((end_s, 1, index, lambda it=seq: self.land(it)))
        for gang in self.network.gangs:
            next_s = self.network.next_s(gang)
            found.append((next_s, -1, gang.number, lambda it=gang: self.network.go_on(it)))
        if not self.asked:
            found.append((self.asked_at_s, -1, 0, self.ask))
        if self.due:
            found.append((self.now, 3.6 if self.preempted else 2, 0, self.route_parked))
        if self.tick_s < math.inf:
            found.append((self.tick_s, 3, 0, self.tick))
        if self.to_arrive:
            found.append((self.to_arrive[0].request.arrival_s, 4, 0, self.arrive))
        if self.history:
            change = self.history[0]
            rank = 3.5 if change.gpus or change.preempted else 0
            found.append((self.moment_of(change, found), rank, 0, self.change))
        return found

    def after_decision(self, start_s: float) -> float:
        """Return when a step begins: after a decision of the same moment, but for rounding."""
        change = self.history[0] if self.history else None
        if change and change.preempted and math.isclose(start_s, change.time_s, rel_tol=1e-12):
            return max(start_s, change.time_s)
        return start_s

    def moment_of(self, change: Change, others: Sequence[tuple[float, Any, Any, Any]]) -> float:
        """Return when devices change hands; a decision is of the moment of what it follows.

        Such as KV that arrives: at the same time here, but for rounding.
        """
        if not change.preempted:
            return change.time_s
        near = [
            event[0] for event in others if math.isclose(event[0], change.time_s, rel_tol=1e-12)
        ]
        return max([change.time_s, *near])

    def change(self) -> None:
        """Let replicas get or lose their devices."""
        assert self.history is not None
        change = self.history.pop(0)
        self.preempted = self.preempted or change.preempted
        for place, r in enumerate(change.replicas):
            replica = self.replicas[r]
            if not change.gpus:
                self.lose(replica)
            elif replica.books.phase == QUEUED:
                replica.gpu = change.gpus[place]
                self.load(replica)

    def lose(self, replica: ClusterReplica) -> None:
        """Let a replica lose its devices: its requests are routed again, with their tokens."""
        phase, number, heir = replica.books.phase, replica.number, replica.books.heir
        underway = [seq for seq in self.requests if seq in self.moving]
        underway += [seq for other in self.replicas for seq in other.books.coming]
        broken = [seq for seq in underway if number in (seq.source, seq.replica)]
        for seq in sorted(broken, key=lambda seq: seq.index):
            self.call_back(seq)
        self.parked += replica.lose_all()
        self.parked += sorted(broken, key=lambda seq: seq.index)
        for seq in self.requests:
            if seq.source == number and seq.handed:
                seq.forget()
        replica.books.phase = OFF if phase == DRAINING else QUEUED
        if heir is not None:
            heir.books.phase = QUEUED
        self.due = True

    def call_back(self, seq: Traveller) -> None:
        """Take a request back whose KV is or was to be on its way."""
        replica = self.replicas[seq.replica]
        if seq in self.moving:
            assert seq.there is not None
            self.stop(seq, replica)
            replica.kv.release(seq.there)
            replica.idle_from_s = min(replica.idle_from_s, self.now)
        else:
            replica.books.coming.remove(seq)
        seq.there, seq.replica = None, -1

    def arrive(self) -> None:
        """Let the next request arrive."""
        self.route(self.to_arrive.pop(0))

    def step(self, replica: ClusterReplica) -> None:
        """End a step and begin the next one; who is handed over is to be routed."""
        handed = replica.finish_step()
        self.parked += handed
        self.due = self.due or bool(handed)
        replica.start(self.now)

    def come_up(self, replica: ClusterReplica) -> None:
        """Let a replica that has loaded serve, first of all those that waited for one."""
        super().come_up(replica)
        self.due = True

    def route_parked(self) -> None:
        """Decide about all parked requests again."""
        again, self.parked, self.due, self.preempted = self.parked, [], False, False
        for seq in again:
            self.route(seq)

    def route(self, seq: Traveller) -> None:
        """Send a request to a replica, or park it if none can take it."""
        able = [replica for replica in self.replicas if replica.takes(seq)]
        if not able:
            self.parked.append(seq)
            return
        replica = able[seq.index % len(able)]
        seq.replica = replica.number
        if seq.handed:
            replica.books.coming.append(seq)
            self.reserve_all()
        else:
            replica.send(seq, self.now + replica.spec.frontend_s)

    def reserve_all(self) -> None:
        """Let KV caches set off for which there are blocks, in the order of their requests."""
        for replica in self.replicas:
            books = replica.books
            while books.coming:
                queue = [*replica.waiting, *books.sent]
                if not all(seq.blocks for seq in queue) or not replica.reserve(books.coming[0]):
                    break
                self.set_off(books.coming.pop(0), replica)

    def set_off(self, seq: Traveller, replica: ClusterReplica) -> None:
        """Let a KV cache go: software first, then its bytes begin to move."""
        role = replica.role
        start_s = role.start_s if self.is_inside(seq) else role.nic_start_s
        seq.begin_s = self.now + role.handover_s + start_s
        self.moving.append(seq)
        replica.books.moving.append(seq)

    def is_inside(self, seq: Traveller) -> bool:
        """Tell whether a KV cache stays on one node."""
        source, target = self.replicas[seq.source].gpu, self.replicas[seq.replica].gpu
        slots = self.network.wires.slots
        return source // slots == target // slots

    def begin(self, seq: Traveller) -> None:
        """Let the bytes of a KV cache move, as fast as they are posted at most."""
        role, inside = self.replicas[seq.replica].role, self.is_inside(seq)
        assert seq.there is not None
        weights: Counter[object] = Counter([(seq.source, inside), (seq.replica, inside)])
        limit = role.block_bytes / role.block_post_s if role.block_post_s else math.inf
        if not inside:
            limit = min(limit, self.network.wires.nic_bytes_per_s)
            ends = self.replicas[seq.source].gpu, self.replicas[seq.replica].gpu
            weights.update(self.network.wires.path(*ends))
        seq.flow = Flow(weights, limit, len(seq.there.blocks) * role.block_bytes)
        self.network.flows.append(seq.flow)

    def stop(self, seq: Traveller, replica: ClusterReplica) -> None:
        """Take a KV cache off its way."""
        self.moving.remove(seq)
        replica.books.moving.remove(seq)
        if seq.flow is not None:
            self.network.flows.remove(seq.flow)
        seq.flow, seq.begin_s = None, math.inf

    def land(self, seq: Traveller) -> None:
        """Let a KV cache arrive: its blocks at the other end are free."""
        source, replica = self.replicas[seq.source], self.replicas[seq.replica]
        source.kv.release(seq)
        source.books.holding.remove(seq)
        self.stop(seq, replica)
        seq.arrive_s = self.now
        replica.take_over(seq)
        replica.send(seq, self.now)
        source.idle_from_s = min(source.idle_from_s, self.now)
