"""Requests that move between replicas while they decode, naive: event by event, step by step.

At one moment steps end and the next ones begin, then stages end, then moves are decided, then
requests arrive, then idle replicas begin.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from reference_kv import Request, Served
from reference_replica import AGGREGATED, ClusterReplica, Role, Traveller
from reference_steps import ReplicaSpec, Result

from gpuyard.envs.perf.serving.cost_table import CostTable


@dataclass(frozen=True)
class Rules:
    """How a move goes."""

    block_s: float
    stage_s: float
    last_blocks: int
    max_stages: int


@dataclass(eq=False)
class Move:
    """A request on its way."""

    seq: Traveller
    source: ClusterReplica
    to: ClusterReplica
    preemptions: int
    stages: int = 0
    copied: int = 0  # blocks
    due_s: float = math.inf
    leaves: bool = False  # when the step under way ends
    stopped_s: float = math.nan


class MovingWorld:
    """Replicas, the requests that come to them, and moves between them."""

    def __init__(
        self, specs: Sequence[ReplicaSpec], tables: Sequence[CostTable], requests, rules: Rules
    ) -> None:
        n = len(requests)
        self.result = Result([math.nan] * n, [math.nan] * n, [-1] * n, [0] * n, [], [])
        self.rules = rules
        self.replicas = [
            ClusterReplica(k, Role(AGGREGATED, 1, 1, 1, 0.0, spec, table), self.result)
            for k, (spec, table) in enumerate(zip(specs, tables, strict=True))
        ]
        self.moves: list[Move] = []
        self.arrived, self.given_up, self.pauses = 0, 0, []

    def serve(
        self,
        requests: Sequence[Request],
        assignment: Sequence[int],
        decisions: Sequence[tuple[float, int, int]],
    ) -> Result:
        """Serve requests, request i first on ``assignment[i]``; a decision is (when, from, to)."""
        coming, decided = list(enumerate(requests)), list(decisions)
        while True:
            moments = [r.end_s for r in self.replicas] + [m.due_s for m in self.moves]
            moments += [r.next_start_s() for r in self.replicas]
            moments += [coming[0][1].arrival_s] if coming else []
            moments += [decided[0][0]] if decided else []
            now = min(moments)
            if now == math.inf:
                assert not self.moves
                return self.result
            for replica in self.replicas:
                if replica.end_s == now:
                    replica.finish_step()
                    self.leave(replica, now)
                    replica.start(now)
            for move in [move for move in self.moves if move.due_s == now]:
                self.end_stage(move, now)
            while decided and decided[0][0] == now:
                _, source, to = decided.pop(0)
                self.begin(self.replicas[source], self.replicas[to], now)
            while coming and coming[0][1].arrival_s == now:
                index, request = coming.pop(0)
                replica = self.replicas[assignment[index]]
                replica.send(Traveller(index, request), now + replica.spec.frontend_s)
            for replica in self.replicas:
                if replica.next_start_s() == now:
                    replica.start(now)

    def begin(self, source: ClusterReplica, to: ClusterReplica, now: float) -> None:
        """Let the shortest request that decodes set off, of those of the lowest priority."""
        here = [seq for seq in source.running if source.decodes(seq)]
        seq = min(here, key=lambda seq: (seq.request.priority, seq.computed))
        assert isinstance(seq, Traveller) and not to.waiting
        seq.there = Served(seq.index, seq.request)
        to.books.moving.append(seq)
        move = Move(seq, source, to, self.result.preemptions[seq.index])
        self.moves.append(move)
        self.next_stage(move, now)

    def next_stage(self, move: Move, now: float) -> None:
        """Copy what is full and not there yet, or let the request leave after this step."""
        seq, rules = move.seq, self.rules
        stays = seq in move.source.running and move.source.decodes(seq)
        if not stays or self.result.preemptions[seq.index] != move.preemptions:
            self.give_up(move, now)
            return
        move.stages += 1
        left = len(seq.blocks) - move.copied
        if left <= rules.last_blocks:
            whole = move.to.spec.blocks_for(seq.tokens + 1)
            if self.reserve(move, whole - len(seq.there.private)):
                move.leaves, move.due_s = True, move.source.end_s
                return
        elif move.stages < rules.max_stages and self.reserve(move, left - 1):
            move.copied += left - 1
            move.due_s = now + rules.stage_s + (left - 1) * rules.block_s
            return
        self.give_up(move, now)

    def reserve(self, move: Move, count: int) -> bool:
        if count > len(move.to.kv.free):
            return False
        move.to.kv.allocate(move.seq.there, count)
        return True

    def leave(self, replica: ClusterReplica, now: float) -> None:
        """Take the request that is to leave out of a batch between two steps."""
        for move in self.moves:
            if move.source is replica and move.leaves and move.seq in replica.running:
                replica.running.remove(move.seq)
                replica.books.holding.append(move.seq)
                move.leaves, move.stopped_s = False, now
                left = len(move.seq.blocks) - move.copied
                move.due_s = now + self.rules.stage_s + left * self.rules.block_s

    def end_stage(self, move: Move, now: float) -> None:
        if move.leaves:  # it has finished in that step
            self.give_up(move, now)
        elif math.isnan(move.stopped_s):
            self.next_stage(move, now)
        else:
            self.land(move, now)

    def land(self, move: Move, now: float) -> None:
        source, to, seq = move.source, move.to, move.seq
        source.books.holding.remove(seq)
        source.kv.release(seq)
        look_again(source, now)
        to.books.moving.remove(seq)
        to.take_over(seq)
        to.send(seq, now)
        self.moves.remove(move)
        self.arrived += 1
        self.pauses.append(now - move.stopped_s)

    def give_up(self, move: Move, now: float) -> None:
        move.to.books.moving.remove(move.seq)
        move.to.kv.release(move.seq.there)
        look_again(move.to, now)
        self.moves.remove(move)
        self.given_up += 1


def look_again(replica: ClusterReplica, now: float) -> None:
    """Let an idle replica look at its queue, which may have waited for blocks."""
    if replica.end_s == math.inf:
        replica.idle_from_s = now
