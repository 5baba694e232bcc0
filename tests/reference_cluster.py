"""Services on a cluster once more: naive, event by event, as the known answer for the engine.

One Python object per replica, which steps iteration by iteration (``reference_serving.py``), lists
of parked and travelling requests, and a loop that always handles the earliest event. It shares no
code with the engine. Conventions where the words of a specification leave room:

* At one moment replicas come up and steps end, then KV caches arrive. Then parked requests are
  routed, in order, if a replica came up or a prompt is computed; then replicas are decided about
  (who waits gets free devices before the next such decision), then gangs are placed, who waits
  because of such decisions, is handed back by preempted replicas, or handed over as a step begins,
  is routed, and requests arrive. Idle replicas begin a step after all of that, and whom one hands
  over as it begins is routed when all of them have begun.
* A rule stands for the policy: of the replicas that can take request ``i`` the ``i``-th does,
  modulo their number; decisions about replicas follow a script.
* Which gang of replicas gets devices when and where, and loses them, is given: a history. Without
  one all stand on one node with room for all of them, and have devices at once. When and where
  gangs start is given too, and which uplinks they reserve; what they and KV transfers do to each
  other is not.
* A request that was sent to a replica and holds no blocks goes before those that come from a
  prefill replica, one that has not yet reached its engine, too.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from reference_faults import stops
from reference_fleet import Change, Fleet, Scaling
from reference_kv import Request
from reference_network import Flow, Gang, Network, Wires
from reference_replica import (
    DECODE,
    DRAINING,
    OFF,
    PREFILL,
    QUEUED,
    SERVING,
    STARTING,
    TURNING,
    ClusterReplica,
    Role,
    Traveller,
)
from reference_steps import Result


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
        moment: Callable[[float], float] = float,
    ) -> None:
        n = len(requests)
        self.result = Result([math.nan] * n, [math.nan] * n, [-1] * n, [0] * n, [], [])
        self.requests = [
            Traveller(i, request, max_tokens=most)
            for i, (request, most) in enumerate(zip(requests, max_tokens, strict=True))
        ]
        self.to_arrive = list(self.requests)
        self.parked: list[Traveller] = []
        self.decided = False  # to be routed once gangs have been placed at this moment
        self.began = False  # a step of an idle replica has handed somebody over
        self.moving: list[Traveller] = []
        self.failures = 0  # that took devices from replicas
        self.overlapped = 0  # KV caches that set off while their prompts were computed
        self.chose = 0  # routes with replicas in the preferred domain and others
        self.dropped = 0  # KV caches, whose prompts had to be computed anew
        super().__init__(roles, self.result, scaling, history, asked_at_s)
        ports = {
            (replica.number, inside): bytes_per_s
            for replica in self.replicas
            for inside, bytes_per_s in enumerate(
                (replica.role.nic_bytes_per_s, replica.role.bytes_per_s)
            )
        }
        self.moment = moment  # of an event, in the numbers in which all that follows is computed
        self.network = Network(wires, list(gangs), ports, equal=1e-12 if moment is float else 0.0)

    def run(self, until_s: float = math.inf) -> Result:
        """Serve all requests and let all gangs finish, or stop after ``until_s``."""
        while self.is_open() and self.now < until_s:
            now, _, _, handle = min(self.events(), key=lambda event: event[:3])
            self.now = self.moment(now)
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
                found.append((start_s, 5, r, lambda it=replica: self.begin_idle(it)))
        for seq in self.moving:
            if seq.flow is None:
                found.append((seq.begin_s, -1, 0, lambda it=seq: self.begin(it)))
            else:
                end_s, index = self.network.end_s(seq.flow), seq.index
                found.append((end_s, 1, index, lambda it=seq: self.land(it)))
        for gang in self.network.gangs:
            next_s = self.network.next_s(gang)
            found.append((next_s, -1, gang.number, lambda it=gang: self.network.go_on(it)))
        found += stops(self.network)
        if not self.asked:
            found.append((self.asked_at_s, -1, 0, self.ask))
        if self.due:
            rank = 6 if self.began else 3.6 if self.decided else 2
            found.append((self.now, rank, 0, self.route_parked))
        if self.tick_s < math.inf:
            found.append((self.tick_s, 3, 0, self.tick))
        if self.to_arrive:
            found.append((self.to_arrive[0].request.arrival_s, 4, 0, self.arrive))
        if self.history:
            change = self.history[0]
            rank = 0 if not change.gpus and not change.preempted else 3.5
            if self.are_held(change.gpus):
                rank = 3.7  # until who is routed leaves the replica that drains there
            found.append((self.moment_of(change, found), rank, 0, self.change))
        return found

    def are_held(self, gpus: Sequence[int]) -> bool:
        """Tell whether a replica still stands on some of these devices."""
        gone = (OFF, QUEUED, TURNING)
        return any(it.gpu in gpus and it.books.phase not in gone for it in self.replicas)

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
        self.decided = self.decided or change.preempted
        for place, r in enumerate(change.replicas):
            replica = self.replicas[r]
            if not change.gpus:
                self.lose(replica)
            elif replica.books.phase == QUEUED:
                replica.gpu = change.gpus[place]
                replica.uplinks = frozenset(self.network.wires.of_gpus(change.uplinks))
                self.load(replica)

    def place_waiting(self) -> None:
        """Let those get devices that got them before the next decision about replicas."""
        while self.history and self.history[0].time_s <= self.now:
            if self.history[0].decisions > self.scale_decisions:
                return
            self.change()

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
        computed = [seq for seq in replica.running if seq.computed_s == self.now]
        self.due = self.due or bool(computed)
        for seq in computed:
            if seq.flow is not None:
                seq.flow.limit = seq.limit
        handed = replica.finish_step()
        self.parked += handed
        self.due = self.due or bool(handed)
        self.start(replica)

    def start(self, replica: ClusterReplica) -> None:
        """Begin a step; whose KV goes as it is computed is to be routed."""
        replica.start(self.now)
        handed = replica.hand_over_early(self.now)
        self.parked += handed
        self.due, self.decided = self.due or bool(handed), self.decided or bool(handed)

    def tick(self) -> None:
        """Decide about replicas; who is to be routed then is so once gangs have been placed."""
        super().tick()
        self.decided = self.decided or self.due

    def begin_idle(self, replica: ClusterReplica) -> None:
        """Let an idle replica begin a step; others that begin now do so before a route."""
        self.start(replica)
        self.began = self.due

    def come_up(self, replica: ClusterReplica) -> None:
        """Let a replica that has loaded serve, first of all those that waited for one."""
        super().come_up(replica)
        self.due = True

    def route_parked(self) -> None:
        """Decide about all parked requests again."""
        again, self.parked = self.parked, []
        self.due = self.decided = self.began = False
        for seq in again:
            self.route(seq)

    def route(self, seq: Traveller) -> None:
        """Send a request to a replica, or park it if none can take it."""
        if seq.handed and not self.has_decoder(self.replicas[seq.source]):
            if seq.computed_s <= self.now:
                self.drop(seq)
        able = [it for it in self.replicas if it.takes(seq) and self.is_near(it, seq)]
        if not able:
            self.parked.append(seq)
            return
        near = [it for it in able if self.stays_near(it, seq)] or able
        self.chose += len(near) < len(able)
        replica = near[seq.index % len(near)]
        seq.replica = replica.number
        if seq.handed:
            replica.books.coming.append(seq)
            self.reserve_all()
        else:
            replica.send(seq, self.now + replica.spec.frontend_s)

    def is_near(self, replica: ClusterReplica, seq: Traveller) -> bool:
        """Tell whether a replica stands where a request may go on, or its prompt be computed."""
        if seq.handed:
            return self.reaches(self.replicas[seq.source], replica)
        return replica.role.does != PREFILL or self.has_decoder(replica)

    def stays_near(self, replica: ClusterReplica, seq: Traveller) -> bool:
        """Tell whether a request's KV would stay in the domain that its service prefers."""
        domain = replica.role.nearest
        if seq.handed:
            return self.are_within(self.replicas[seq.source], replica, domain)
        return replica.role.does != PREFILL or self.has_decoder(replica, domain)

    def has_decoder(self, replica: ClusterReplica, domain: str = "") -> bool:
        """Tell whether a decode replica in a prefill replica's domain serves or loads, or may.

        The domain is the one in which its KV caches move, if none is given.
        """
        domain = domain or replica.role.farthest
        if domain == "zone":
            return True
        there = (STARTING, SERVING)
        decoders = [it for it in self.replicas if it.role.does == DECODE]
        return any(
            it.books.phase in there and self.are_within(replica, it, domain) for it in decoders
        )

    def reaches(self, a: ClusterReplica, b: ClusterReplica) -> bool:
        """Tell whether KV caches move between where two replicas stand."""
        return self.are_within(a, b, a.role.farthest)

    def are_within(self, a: ClusterReplica, b: ClusterReplica, domain: str) -> bool:
        """Tell whether two replicas stand in one domain."""
        wires = self.network.wires
        sizes = {"node": wires.slots, "leaf": wires.slots * wires.nodes_per_leaf}
        size = sizes.get(domain, math.inf)
        return a.gpu // size == b.gpu // size

    def drop(self, seq: Traveller) -> None:
        """Drop a KV cache that can go nowhere: the prompt is computed anew."""
        source = self.replicas[seq.source]
        source.kv.release(seq)
        source.books.holding.remove(seq)
        source.idle_from_s = min(source.idle_from_s, self.now)
        seq.forget()
        self.dropped += 1

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
        if self.now < seq.computed_s:
            first_s = seq.begun_s + (seq.computed_s - seq.begun_s) / role.layers
            seq.begin_s = max(seq.begin_s, first_s)
            self.overlapped += 1
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
        post_s = role.inside_post_s if inside else role.block_post_s
        limit = role.block_bytes / post_s if post_s else math.inf
        if not inside:
            limit = min(limit, self.network.wires.nic_bytes_per_s)
            ends = self.replicas[seq.source].gpu, self.replicas[seq.replica].gpu
            reserved = self.network.reserved().union(*(it.uplinks for it in self.replicas))
            weights.update(self.network.wires.path(*ends, reserved))
        size, seq.limit = len(seq.there.private) * role.block_bytes, limit
        if self.now < seq.computed_s:  # all but the last layer, until then
            early = size * (role.layers - 1) / role.layers
            limit = min(limit, early / (seq.computed_s - self.now))
        seq.flow = Flow(weights, limit, size)
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
