"""Sessions that answer back on replicas with host memory and a store, event by event and naively.

Where new weights come with an empty cache an engine empties its tiers, too, and those that fetch
begin anew in front of the queue. A read or write that is under way keeps its port busy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from reference_kv import Served
from reference_serving import ReplicaSpec, Result
from reference_sessions import Engine
from reference_tiers import Host, HostTier, TieredBlocks, TieredReplica

from gpuyard.envs.perf.serving.cost_table import CostTable


@dataclass
class Nic:
    """The NICs between a replica and the store."""

    unit_s: float
    read_free_s: float = 0.0
    write_free_s: float = 0.0


class Store(HostTier):
    """What all replicas share: a unit passes its port and a replica's NICs."""

    def write_from(self, nic: Nic, prefix_id: int, now_s: float) -> None:
        if prefix_id not in self.since and self.host.units > 0:
            self.write_free_s = max(now_s, self.write_free_s) + self.host.unit_s
            nic.write_free_s = max(now_s, nic.write_free_s) + nic.unit_s
            self.put(prefix_id, max(self.write_free_s, nic.write_free_s))

    def read_by(self, nic: Nic, units: int, now_s: float) -> float:
        nic.read_free_s = max(now_s, nic.read_free_s) + units * nic.unit_s
        return max(self.read(units, now_s), nic.read_free_s)


class StoredBlocks(TieredBlocks):
    """The pool of a GPU that copies what it seals to a store, too."""

    def __init__(self, spec: ReplicaSpec, tier: HostTier, store: Store, nic: Nic) -> None:
        super().__init__(spec, tier)
        self.store, self.nic = store, nic

    def register(self, seq: Served, tokens: int) -> None:
        before = len(seq.nodes)
        super().register(seq, tokens)
        if len(seq.nodes) > before:
            for node in seq.nodes[before:]:
                self.store.write_from(self.nic, node.id, self.now_s)
            self.store.touch([node.id for node in seq.nodes])


class StoredReplica(TieredReplica):
    """A replica that fetches from its host memory, or what that lacks from a store."""

    def __init__(
        self, spec: ReplicaSpec, cost: CostTable, result: Result, host: Host, store: Store, nic: Nic
    ) -> None:
        super().__init__(spec, cost, result, host, [])
        self.store, self.nic = store, nic
        self.empty_cache()

    def empty_cache(self) -> None:
        """Have nothing cached on the GPU."""
        self.kv = StoredBlocks(self.spec, self.tier, self.store, self.nic)

    def is_below(self, prefix_id: int, now: float) -> bool:
        return super().is_below(prefix_id, now) or self.store.since.get(prefix_id, math.inf) <= now

    def read(self, ids: Sequence[int], begin: int, now: float) -> float:
        near = sum(super(StoredReplica, self).is_below(prefix_id, now) for prefix_id in ids[begin:])
        far, ready_s = len(ids) - begin - near, now
        if near:
            ready_s = self.tier.read(near, now)
        if far:
            ready_s = max(ready_s, self.store.read_by(self.nic, far, now))
        self.tier.touch(ids)
        self.store.touch(ids)
        return ready_s


class TieredEngine(Engine):
    """A replica with tiers whose steps are events; it may have nothing to do but to wait."""

    replica: StoredReplica
    blocked = False  # the head of its queue lacks blocks, which only those that fetch give back
    given_up = 0  # fetches, as new weights came

    def next_s(self) -> float:
        """Return when it does something next: units, or a request that finds none before it."""
        if self.end_s < math.inf:
            return self.end_s
        moments = [ready_s for ready_s, _ in self.replica.fetching]
        if self.replica.waiting and not self.blocked:
            moments.append(self.resume_s)
        if not self.replica.waiting:
            moments += [queued_s for queued_s, _ in self.sent]
        return max(self.resume_s, min(moments, default=math.inf))

    def start(self, now: float) -> None:
        """Begin a step if the tiers leave anything to compute."""
        self.blocked = False
        super().start(now)
        replica = self.replica
        self.blocked = bool(replica.waiting) and now >= self.resume_s and self.end_s == math.inf

    def begin_step(self, now: float, seen: float) -> None:
        """Let the replica begin a step, or wait for what it fetches."""
        replica = self.replica
        replica.seen_s, replica.arrivals = seen, [seq for _, seq in self.sent]
        end_s = replica.begin_step(now, seen)
        self.sent = self.sent[len(self.sent) - len(replica.arrivals) :]
        self.end_s = end_s if replica.plan else math.inf

    def end_step(self) -> None:
        """End the step under way; what is sealed with it is copied from then on."""
        self.replica.kv.now_s = self.end_s
        super().end_step()

    def forget(self) -> None:
        """Drop the cache and the tiers, and let those that fetch begin anew."""
        replica = self.replica
        again = [seq for _, seq in replica.fetching]
        self.given_up += len(again)
        for seq in again:
            replica.kv.release(seq)
            replica.reserved.discard(seq.index)
            seq.computed = 0
        replica.fetching = []
        while replica.running:
            replica.preempt(self.resume_s)
        replica.waiting[:0] = again
        assert len(replica.kv.free) == replica.spec.kv_blocks
        replica.tier.since.clear()
        replica.store.since.clear()
        replica.empty_cache()
        self.blocked = False
