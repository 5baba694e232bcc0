"""One replica of a cluster for the naive reference: it also takes and gives KV caches."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from reference_engine import Replica
from reference_kv import KVBlocks, Served
from reference_network import Flow, Uplinks
from reference_steps import ReplicaSpec, Result

from gpuyard.envs.perf.serving.cost_table import CostTable

AGGREGATED, PREFILL, DECODE = "aggregated", "prefill", "decode"
OFF, QUEUED, STARTING, SERVING, DRAINING = "off", "queued", "starting", "serving", "draining"
TURNING = "turning"  # waits for the devices of a replica of another role, which drains


@dataclass(frozen=True)
class Role:
    """Replicas of one kind; the numbers of handovers are those of going on there."""

    does: str
    least: int
    most: int
    initial: int
    startup_s: float
    spec: ReplicaSpec
    cost: CostTable
    change_s: float = 0.0  # for a drained replica of another role to become one of it
    local_tokens: int = 0  # uncached prompt tokens that a decode replica computes itself
    handover_s: float = 0.0
    block_bytes: float = 0.0
    block_post_s: float = 0.0
    start_s: float = 0.0  # inside a node
    inside_post_s: float = 0.0
    bytes_per_s: float = math.inf
    nic_start_s: float = 0.0  # between nodes
    nic_bytes_per_s: float = math.inf
    layers: int = 0  # of a KV cache that goes layer by layer beside its prompt, 0: after it
    lacking: bool = False  # only the blocks move that the cache of a decode replica lacks
    farthest: str = "zone"  # domain that KV caches move in: node, leaf or zone
    nearest: str = "zone"  # domain that they should move in


@dataclass(eq=False)
class Traveller(Served):
    """A request in a world of several replicas."""

    max_tokens: int = 0
    replica: int = -1  # that is to serve it
    source: int = -1  # that has computed its prompt for another, -1: none
    handed: bool = False  # its prompt is computed and it has not come to where it goes on
    there: Served | None = None  # holds the blocks that are reserved where it goes
    begin_s: float = math.inf  # when the bytes of its KV begin to move
    flow: Flow | None = None  # what moves them
    begun_s: float = math.nan  # when the step began that computes the last of its prompt
    computed_s: float = -math.inf  # when it is to end, if it was handed over as it began
    limit: float = math.inf  # of the flow once the prompt is computed
    arrive_s: float = math.nan
    seen_s: float = 0.0  # when it reaches the engine

    def forget(self) -> None:
        """Lose the KV cache, but not the tokens: the client has them."""
        self.computed, self.nodes, self.private, self.registers = 0, [], [], True
        self.replica, self.source, self.handed, self.there = -1, -1, False, None


@dataclass
class Books:
    """What the router knows of a replica besides what is in its engine."""

    phase: str = OFF
    ready_s: float = math.inf
    sent: list[Traveller] = field(default_factory=list)  # not seen by a step yet
    coming: list[Traveller] = field(default_factory=list)  # wait for blocks to be handed over
    moving: list[Traveller] = field(default_factory=list)  # their blocks are reserved
    holding: list[Traveller] = field(default_factory=list)  # handed over, KV still here
    heir: ClusterReplica | None = None  # of another role, gets its devices when it ends


class ClusterReplica(Replica):
    """A replica whose steps are events of a larger world."""

    def __init__(self, number: int, role: Role, result: Result) -> None:
        super().__init__(role.spec, role.cost, result)
        self.number, self.role = number, role
        self.handed_over: list[Traveller] = []  # by the step that has just ended
        self.end_s = math.inf  # of the step under way
        self.idle_from_s = -math.inf  # when an idle one may look at its queue (again)
        self.gpu = 0  # where it stands
        self.uplinks: Uplinks = frozenset()  # that its gang has reserved
        self.spared = 0  # prefix units that had not to move here
        self.books = Books()

    def empty(self) -> None:
        """Forget all: requests, cache, steps."""
        spec = self.spec
        self.waiting, self.running, self.steps = [], [], []
        self.kv = KVBlocks(spec.kv_blocks, spec.block_size, spec.prefix_block_tokens)
        self.end_s, self.idle_from_s, self.books = math.inf, -math.inf, Books()
        self.uplinks = frozenset()

    @property
    def load(self) -> int:
        """Requests sent here that have neither finished nor been handed over."""
        books = self.books
        here = len(self.waiting) + sum(not seq.handed for seq in self.running)
        return here + len(books.sent) + len(books.coming) + len(books.moving)

    def next_start_s(self) -> float:
        """Return when an idle replica begins a step, inf if it has nothing to do."""
        if self.end_s < math.inf or not (self.waiting or self.books.sent):
            return math.inf
        here = self.waiting + self.books.sent
        return max(self.idle_from_s, min(seq.seen_s for seq in here))

    def send(self, seq: Traveller, seen_s: float) -> None:
        """Let a request reach the engine at ``seen_s``."""
        seq.seen_s = seen_s
        self.books.sent.append(seq)
        self.idle_from_s = min(self.idle_from_s, seen_s)

    def start(self, now: float) -> None:
        """Begin a step at ``now`` if there is anything to compute."""
        seen = self.sees_until(now)
        self.see(seen)
        if not self.waiting and not self.running:
            return
        self.end_s = self.begin_step(now, seen)
        if not self.plan:  # no block for anybody: until something changes
            self.end_s, self.idle_from_s = math.inf, math.inf

    def see(self, until_s: float) -> None:
        """Queue what has reached the engine by then."""
        for seq in sorted(self.books.sent, key=lambda seq: seq.seen_s):
            if seq.seen_s <= until_s:
                self.books.sent.remove(seq)
                self.queue(seq)

    def queue(self, seq: Traveller) -> None:
        """Queue a request; one whose KV is here comes before those that need blocks."""
        place = len(self.waiting)
        if seq.blocks:
            place = self.loaded()
        self.waiting.insert(place, seq)

    def loaded(self) -> int:
        """Return how many waiting requests have their KV here: the first ones."""
        return sum(bool(seq.blocks) for seq in self.waiting)

    def preempt(self, now: float) -> Served:
        """Preempt the request admitted last; it must not stand before those that hold blocks."""
        gone = super().preempt(now)
        self.waiting.insert(self.loaded(), self.waiting.pop(0))
        return gone

    def schedule(self, now: float) -> list[tuple[Served, int]]:
        """Choose this step's requests; a batch that preemptions have emptied begins anew."""
        ran = bool(self.running)
        plan = super().schedule(now)
        if ran and not self.running:
            self.see(now)
            plan = super().schedule(now)
        return plan

    def finish_step(self) -> list[Traveller]:
        """End the step under way; returns those that it hands over."""
        self.handed_over, self.end_s = [], math.inf
        self.end_step()
        return self.handed_over

    def try_to_admit(self, now: float, seq: Served, budget: int) -> int:
        """Admit the first waiting request; one whose KV came computes its last token only."""
        if not seq.blocks:
            return super().try_to_admit(now, seq, budget)
        self.running.append(self.waiting.pop(0))
        seq.computed, seq.prefill_target, seq.registers = seq.tokens - 1, seq.tokens, True
        self.compute(seq, 1, 0)
        return 1

    def sample(self, seq: Served, now: float) -> None:
        """Give a request its next token; a prefill replica hands it over instead."""
        if self.role.does != PREFILL:
            super().sample(seq, now)
            return
        assert isinstance(seq, Traveller)
        self.running.remove(seq)
        if not seq.handed:
            self.hand_over(seq)
            self.handed_over.append(seq)

    def hand_over(self, seq: Traveller) -> None:
        """Be done with a request but for its KV."""
        self.books.holding.append(seq)
        seq.source, seq.replica, seq.handed = self.number, -1, True

    def hand_over_early(self, now: float) -> list[Traveller]:
        """Hand over the requests whose prompts are computed at the end of the step just begun."""
        early = [seq for seq, new in self.plan if seq.computed + new == seq.tokens]
        if self.role.does != PREFILL or not self.role.layers or self.end_s == math.inf:
            return []
        for seq in early:
            self.hand_over(seq)
            seq.begun_s, seq.computed_s = now, self.end_s
        return early

    def lose_all(self) -> list[Traveller]:
        """Lose all requests and caches; returns the requests that were here, in order."""
        self.see(math.inf)
        lost = [seq for seq in [*self.running, *self.waiting] if not seq.handed]
        for seq in lost:
            seq.forget()
        self.empty()
        return lost

    def reserve(self, seq: Traveller) -> bool:
        """Take the blocks of a request that is to come; False if there are not enough."""
        hits = self.kv.cached_prefix(seq) if self.role.lacking else []
        need = self.spec.blocks_for(seq.tokens) - sum(len(node.blocks) for node in hits)
        if need > len(self.kv.free) - sum(len(node.blocks) for node in hits if node.users == 0):
            return False
        self.spared += len(hits)
        seq.there = Served(seq.index, seq.request)
        self.kv.share(seq.there, hits)
        self.kv.allocate(seq.there, need)
        return True

    def take_over(self, seq: Traveller) -> None:
        """Let the reserved blocks be those of a request whose KV has arrived."""
        assert seq.there is not None
        seq.private, seq.nodes = seq.there.private, seq.there.nodes
        seq.there, seq.handed = None, False

    def holders(self) -> list[Served]:
        """Return all that hold blocks."""
        loaded = [seq for seq in [*self.waiting, *self.books.sent] if seq.blocks]
        reserved = [seq.there for seq in self.books.moving if seq.there]
        return [*self.running, *loaded, *self.books.holding, *reserved]

    def cached_tokens(self, seq: Traveller) -> int:
        """Return the prompt tokens of a request that are cached here, short of the last one."""
        prompt, unit = seq.request.prompt_tokens, self.spec.prefix_block_tokens
        hit = 0
        for place, prefix_id in enumerate(seq.request.prefix_ids if unit else ()):
            if prefix_id not in self.kv.cache or (place + 1) * unit > prompt - 1:
                break
            hit += unit
        return hit

    def takes(self, seq: Traveller) -> bool:
        """Tell whether a request may be sent here now."""
        if self.books.phase != SERVING or (seq.handed and self.role.does != DECODE):
            return False
        if self.role.does == DECODE and not seq.handed:
            left = seq.request.prompt_tokens - self.cached_tokens(seq)
            if left > self.role.local_tokens:
                return False
        ahead = self.spec.drafting.lookahead if self.spec.drafting else 0
        output = seq.generated if self.role.does == PREFILL else seq.max_tokens + ahead
        return self.spec.blocks_for(seq.request.prompt_tokens + output) <= self.spec.kv_blocks
