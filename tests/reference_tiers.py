"""The naive reference with host memory behind each replica: an ordered dict of prefix units."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from reference_engine import Replica
from reference_kv import Block, KVBlocks, Node, Request, Served
from reference_serving import validate
from reference_steps import ReplicaSpec, Result

from gpuyard.envs.perf.serving.cost_table import CostTable


@dataclass(frozen=True)
class Host:
    """Host memory of one replica: room in prefix units, seconds per unit, when it is written."""

    units: int
    unit_s: float
    write_back: bool


class HostTier:
    """Units by id with the time from which they can be read, least recently used first."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.since: OrderedDict[int, float] = OrderedDict()
        self.read_free_s = self.write_free_s = 0.0

    def put(self, prefix_id: int, since_s: float) -> None:
        if prefix_id in self.since or self.host.units == 0:
            self.touch([prefix_id])
            return
        if len(self.since) == self.host.units:
            self.since.popitem(last=False)
        self.since[prefix_id] = since_s

    def write(self, prefix_id: int, now_s: float) -> None:
        """Copy a unit, behind those that are copied already."""
        if prefix_id not in self.since and self.host.units > 0:
            self.write_free_s = max(now_s, self.write_free_s) + self.host.unit_s
            self.put(prefix_id, self.write_free_s)

    def read(self, units: int, now_s: float) -> float:
        self.read_free_s = max(now_s, self.read_free_s) + units * self.host.unit_s
        return self.read_free_s

    def touch(self, prefix_ids: Sequence[int]) -> None:
        for prefix_id in reversed(prefix_ids):
            if prefix_id in self.since:
                self.since.move_to_end(prefix_id)


class TieredBlocks(KVBlocks):
    """The pool of a GPU that copies to its host what it seals, or what it evicts."""

    def __init__(self, spec: ReplicaSpec, tier: HostTier) -> None:
        super().__init__(spec.kv_blocks, spec.block_size, spec.prefix_block_tokens)
        self.tier, self.now_s = tier, 0.0

    def evict(self, node: Node, taken: Block) -> None:
        if self.tier.host.write_back:
            self.tier.put(node.id, 0.0)
        super().evict(node, taken)

    def register(self, seq: Served, tokens: int) -> None:
        before = len(seq.nodes)
        super().register(seq, tokens)
        if len(seq.nodes) > before and not self.tier.host.write_back:
            for node in seq.nodes[before:]:
                self.tier.write(node.id, self.now_s)
            self.tier.touch([node.id for node in seq.nodes])


class TieredReplica(Replica):
    """A replica that fetches what its host memory has beyond its GPU's cache.

    ``fetching`` holds those that wait for units, in order, with the time at which they are here.
    """

    kv: TieredBlocks

    def __init__(
        self,
        spec: ReplicaSpec,
        cost: CostTable,
        result: Result,
        host: Host,
        arrivals: list[Served],
    ) -> None:
        super().__init__(spec, cost, result)
        self.tier = HostTier(host)
        self.kv = TieredBlocks(spec, self.tier)
        self.arrivals = arrivals
        self.fetching: list[tuple[float, Served]] = []
        self.fetched: dict[int, int] = {}
        self.reserved: set[int] = set()  # requests that hold blocks of all tokens they had

    def run(self) -> None:
        """Serve everything."""
        now = 0.0
        while self.arrivals or self.waiting or self.running or self.fetching:
            if not self.running and not self.waiting:
                now = max(now, self.next_look_s())
            self.see(self.sees_until(now))
            end = self.begin_step(now, self.seen_s)
            if self.plan:
                self.kv.now_s = now = end
                self.end_step()
            elif self.waiting:  # its head lacks blocks
                now = max(now, self.next_look_s())

    def next_look_s(self) -> float:
        """When an idle engine has something new: units, or a request behind none that waits."""
        moments = [ready_s for ready_s, _ in self.fetching]
        if self.arrivals and not self.waiting:
            moments.append(self.reaches_s(self.arrivals[0]))
        return min(moments)

    def reaches_s(self, seq: Served) -> float:
        return seq.request.arrival_s + self.spec.frontend_s

    def see(self, seen_s: float) -> None:
        self.seen_s = seen_s
        while self.arrivals and self.reaches_s(self.arrivals[0]) <= seen_s:
            self.waiting.append(self.arrivals.pop(0))

    def schedule(self, now: float) -> list[tuple[Served, int]]:
        self.kv.now_s = now
        plan = super().schedule(now)
        if not self.running:  # all gave way to those that fetch
            self.see(now)
            plan += self.schedule_waiting(now, self.spec.max_num_batched_tokens)
        return plan

    def schedule_waiting(self, now: float, budget: int) -> list[tuple[Served, int]]:
        """First those whose units are here, then the queue, whose head may have to fetch."""
        plan: list[tuple[Served, int]] = []
        for item in list(self.fetching):
            if budget == 0 or len(self.running) == self.spec.max_num_seqs:
                return plan
            ready_s, seq = item
            if ready_s > self.seen_s:
                continue
            self.fetching.remove(item)
            self.running.append(seq)
            seq.prefill_target = seq.tokens
            new = min(seq.tokens - seq.computed, budget)
            self.compute(seq, new, 0)
            plan.append((seq, new))
            budget -= new
        while self.waiting and budget > 0 and len(self.running) < self.spec.max_num_seqs:
            seq = self.waiting[0]
            outcome = self.try_to_fetch(now, seq)
            if outcome == "fetches":
                self.waiting.pop(0)
                continue
            new = self.try_to_admit(now, seq, budget) if outcome == "nothing there" else 0
            if new == 0:
                break
            plan.append((seq, new))
            budget -= new
        return plan

    def try_to_fetch(self, now: float, seq: Served) -> str:
        """Take blocks for all known tokens and let units come, if the host has the next one."""
        hits = self.kv.cached_prefix(seq)
        ids = seq.request.prefix_ids if self.kv.unit else ()
        end = len(hits)
        while end < len(ids) and (end + 1) * self.kv.unit <= seq.tokens - 1:
            if not self.is_below(ids[end], now):
                break
            end += 1
        if end == len(hits):
            return "nothing there"
        held = [block for node in hits for block in node.blocks]
        need = self.spec.blocks_for(seq.tokens) - len(held)
        if need > len(self.kv.free) - sum(block in self.kv.free for block in held):
            return "blocked"
        self.fetching.append((self.read(ids[:end], len(hits), now), seq))
        self.kv.share(seq, hits)
        self.kv.allocate(seq, need)
        seq.computed = end * self.kv.unit
        more = (end - len(hits)) * self.kv.unit
        self.fetched[seq.index] = self.fetched.get(seq.index, 0) + more
        self.reserved.add(seq.index)
        if self.result.cached_tokens[seq.index] < 0:
            self.result.cached_tokens[seq.index] = seq.computed
        return "fetches"

    def is_below(self, prefix_id: int, now: float) -> bool:
        """Tell whether a unit can be read from the tiers."""
        return self.tier.since.get(prefix_id, math.inf) <= now

    def read(self, ids: Sequence[int], begin: int, now: float) -> float:
        """Let units come from ``begin`` on; returns when they are here."""
        ready_s = self.tier.read(len(ids) - begin, now)
        self.tier.touch(ids)
        return ready_s

    def preempt(self, now: float) -> Served:
        seq = super().preempt(now)
        self.reserved.discard(seq.index)
        return seq

    def blocks_due(self, seq: Served) -> int:
        tokens = seq.computed
        if seq.index in self.reserved:
            tokens = max(tokens, seq.prefill_target)
        return self.spec.blocks_for(tokens)

    def holders(self) -> list[Served]:
        return self.running + [seq for _, seq in self.fetching]


def simulate_tiers(
    specs: Sequence[ReplicaSpec],
    costs: Sequence[CostTable],
    hosts: Sequence[Host],
    requests: Sequence[Request],
    assignment: Sequence[int],
) -> tuple[Result, list[int]]:
    """Serve ``requests`` as :func:`reference_serving.simulate` does, with host memory.

    Returns:
        What became of the requests, and the tokens that each fetched.
    """
    n = len(requests)
    result = Result([math.nan] * n, [math.nan] * n, [-1] * n, [0] * n, [], [])
    validate(specs, requests, assignment)
    fetched = [0] * n
    for number, (spec, cost, host) in enumerate(zip(specs, costs, hosts, strict=True)):
        arrivals = [Served(i, requests[i]) for i in range(n) if assignment[i] == number]
        replica = TieredReplica(spec, cost, result, host, arrivals)
        replica.run()
        for index, tokens in replica.fetched.items():
            fetched[index] = tokens
    return result, fetched
