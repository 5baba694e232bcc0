"""The serving engine once more: naive, in plain Python, as the known answer for the compiled one.

Nothing here is clever on purpose. One step at a time, one Python object per KV block, every queue a
list. It follows vLLM v1's scheduler (decodes first, chunked prefill under a token budget, recompute
preemption of the last admitted request) and its block pool (LRU free queue, prefix cache), and it
shares no code with ``gpuyard.envs.sim``. Conventions where the words of a specification leave room:

* A request reaches the engine ``frontend_s`` after its arrival. A step starts at the end of the one
  before, or when a request reaches an engine that has nothing to do. It knows the requests that
  reached the engine by its start (``<=``); with ``lag``, if anything still runs, by the start of
  the step before. Those are ``waiting``, the others are not here yet.
* ``whole_prompt`` asks before an admission whether all known tokens would fit; the blocks of the
  chunk are what is taken either way.
* ``C`` of the decode formula counts the tokens computed before the step. A request decodes once its
  computed tokens have reached the length it was admitted with; until then it is a prefill chunk,
  even one of a single token.
* Prompt units enter the prefix cache while they are computed, units with output tokens when the
  request finishes; the last sampled token was never computed, so it is not part of any unit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from reference_kv import KVBlocks, Node, Request, Served

from gpuyard.envs.perf.serving.cost_table import COST, CostTable


@dataclass(frozen=True)
class ReplicaSpec:
    """Scheduler limits and KV memory of one replica."""

    max_num_seqs: int
    max_num_batched_tokens: int
    kv_blocks: int
    block_size: int = 16
    prefix_block_tokens: int = 0  # 0: no prefix cache
    whole_prompt: bool = False  # admits a request only if blocks for all its tokens are free
    lag: bool = False  # plans each step when the one before starts
    frontend_s: float = 0.0  # from arrival to the engine
    window_groups: int = 0  # groups of layers with a window, each with blocks of its own
    window_blocks: int = 0  # that a sequence holds in one such group at most
    state_blocks: int = 0  # of a sequence's linear layers

    def blocks_for(self, tokens: int) -> int:
        """Blocks of a sequence with ``tokens`` computed tokens, counted group by group."""
        if tokens == 0:
            return 0
        full = math.ceil(tokens / self.block_size)
        windows = [min(full, self.window_blocks) for _ in range(self.window_groups)]
        return full + sum(windows) + self.state_blocks


@dataclass
class Result:
    """What became of the requests, in order of the input; times in seconds."""

    first_token_s: list[float]
    finish_s: list[float]
    cached_tokens: list[int]  # prompt tokens found in the prefix cache at first admission
    preemptions: list[int]
    events: list[tuple[float, str, int]]  # (time_s, kind, request)
    steps: list[list[Step]]  # per replica


@dataclass(frozen=True)
class Step:
    """One engine step: ``during`` holds from its start on, ``after`` from its end on."""

    seen_s: float  # requests that reached the engine by then were known to it
    start_s: float
    end_s: float
    during: Counts
    after: Counts


@dataclass(frozen=True)
class Counts:
    """State of a replica: requests running and waiting, KV blocks held and free."""

    running: int
    waiting: int
    held_blocks: int
    free_blocks: int


def step_cost_s(
    cost: CostTable, decodes: list[int], chunks: list[tuple[int, int]], n: int
) -> float:
    """Seconds of one step, the formulas of ``cost_table`` word for word.

    Args:
        cost: the replica's table.
        decodes: cached tokens of every decoding sequence.
        chunks: ``(new tokens, cached tokens)`` of every prefill chunk.
        n: sequences that sample.
    """
    k = {name: float(cost.coefficients[name]) for name in COST.names or ()}
    seqs, cached = len(decodes), sum(decodes)
    total = float(cost.linear_s[seqs + sum(q for q, _ in chunks)]) + float(cost.head_s[n])
    prompt = sum(q for q, _ in chunks)
    if chunks and k["mix_token_s"]:
        total += (k["mix_seq_s"] + k["mix_cell_s"] * prompt) * seqs + k["mix_token_s"] * cached
    elif seqs:
        memory = k["dec_token_s"] * cached + k["dec_row_s"] * seqs
        total += k["dec_fixed_s"] + k["dec_seq_s"] * seqs
        total += k["dec_log_s"] * math.log2(1 + cached / seqs / 1024)
        total += ((k["dec_flop_s"] * cached) ** 3 + memory**3) ** (1 / 3)
    if chunks:
        total += k["pre_fixed_s"]
    longest_s = all_s = 0.0
    for q, c in chunks:
        flops = k["pre_flop_s"] * q * (c + (q + k["pre_pad"]) / 2)
        tile = k["pre_tile_s"] * (q + k["pre_pad"])
        memory = k["pre_query_s"] * q + k["pre_cache_s"] * (c + q)
        chunk_s = (flops**3 + tile**3 + memory**3) ** (1 / 3)
        all_s += chunk_s
        longest_s = max(longest_s, chunk_s + k["pre_alone_s"] * q)
    total += max(longest_s, all_s / (1 + k["other_shards"]))
    return max(total, k["host_s"] + k["host_seq_s"] * n)


class Replica:
    """One engine: a FIFO of waiting requests, a list of running ones, a pool of KV blocks."""

    def __init__(self, spec: ReplicaSpec, cost: CostTable, result: Result) -> None:
        self.spec, self.cost, self.result = spec, cost, result
        self.waiting: list[Served] = []
        self.running: list[Served] = []
        self.kv = KVBlocks(spec.kv_blocks, spec.block_size, spec.prefix_block_tokens)
        self.steps: list[Step] = []

    def sees_until(self, now: float) -> float:
        """Until when requests have to be here for the step that starts ``now``."""
        return self.steps[-1].start_s if self.spec.lag and self.running else now

    def schedule(self, now: float) -> list[tuple[Served, int]]:
        """Choose this step's requests and their new tokens, as vLLM v1's scheduler does."""
        budget, plan, preempted = self.spec.max_num_batched_tokens, [], False
        position = 0
        while position < len(self.running) and budget > 0:
            seq = self.running[position]
            new = min(seq.tokens - seq.computed, budget)
            need = self.spec.blocks_for(seq.computed + new) - len(seq.blocks)
            while need > len(self.kv.free) and seq in self.running:
                self.preempt(now)
                preempted = True
            if seq not in self.running:
                break
            self.compute(seq, new, need)
            plan.append((seq, new))
            budget -= new
            position += 1
        if not preempted:
            self.admit_waiting(now, budget, plan)
        return plan

    def admit_waiting(self, now: float, budget: int, plan: list[tuple[Served, int]]) -> None:
        """Take requests of the queue into this step's plan, in order, while they fit."""
        while self.waiting and budget > 0 and len(self.running) < self.spec.max_num_seqs:
            seq = self.waiting[0]
            new = self.try_to_admit(now, seq, budget)
            if new == 0:
                break
            plan.append((seq, new))
            budget -= new

    def try_to_admit(self, now: float, seq: Served, budget: int) -> int:
        """Admit the first waiting request; returns its new tokens, 0 if its blocks do not fit."""
        hits = self.kv.cached_prefix(seq)
        hit_blocks = [block for node in hits for block in node.blocks]
        hit_tokens = len(hits) * self.spec.prefix_block_tokens
        new = min(seq.tokens - hit_tokens, budget)
        need = self.spec.blocks_for(hit_tokens + new) - len(hit_blocks)
        asked = self.spec.blocks_for(seq.tokens if self.spec.whole_prompt else hit_tokens + new)
        available = len(self.kv.free) - sum(block in self.kv.free for block in hit_blocks)
        if asked - len(hit_blocks) > available:
            return 0
        self.admit(now, self.waiting.pop(0), hits)
        self.compute(seq, new, need)
        return new

    def admit(self, now: float, seq: Served, hits: list[Node]) -> None:
        self.kv.share(seq, hits)
        seq.computed = len(hits) * self.spec.prefix_block_tokens
        seq.prefill_target = seq.tokens
        if self.result.cached_tokens[seq.index] < 0:
            self.result.cached_tokens[seq.index] = seq.computed
        self.running.append(seq)
        self.result.events.append((now, "admit", seq.index))

    def compute(self, seq: Served, new: int, blocks: int) -> None:
        """Reserve the blocks of ``new`` tokens and let the prefix cache know the prompt's."""
        self.kv.allocate(seq, blocks)
        self.kv.register(seq, min(seq.computed + new, seq.request.prompt_tokens))

    def preempt(self, now: float) -> None:
        seq = self.running.pop()
        self.kv.release(seq)
        seq.computed = 0
        self.waiting.insert(0, seq)
        self.result.preemptions[seq.index] += 1
        self.result.events.append((now, "preempt", seq.index))

    def step(self, start: float, seen: float) -> float:
        """Run one step from ``start`` with the requests known by ``seen``; returns its end."""
        end = self.begin_step(start, seen)
        self.end_step()
        return end

    def begin_step(self, start: float, seen: float) -> float:
        """Let a step begin, whose tokens and freed blocks are there at its end, returned."""
        self.plan = self.schedule(start)
        decodes = [seq.computed for seq, _ in self.plan if seq.computed >= seq.prefill_target]
        chunks = [
            (new, seq.computed) for seq, new in self.plan if seq.computed < seq.prefill_target
        ]
        sampling = sum(seq.computed + new == seq.tokens for seq, new in self.plan)
        end = start + step_cost_s(self.cost, decodes, chunks, sampling)
        self.under_way = Step(seen, start, end, self.counts(), self.counts())
        return end

    def end_step(self) -> None:
        """Let the step under way end."""
        sampling = [seq for seq, new in self.plan if seq.computed + new == seq.tokens]
        for seq, new in self.plan:
            seq.computed += new
        for seq in sampling:
            self.sample(seq, self.under_way.end_s)
        self.kv.check(self.holders())
        assert all(len(seq.blocks) == self.blocks_due(seq) for seq in self.running)
        self.steps.append(replace(self.under_way, after=self.counts()))

    def blocks_due(self, seq: Served) -> int:
        """Return the blocks that a running request holds."""
        return self.spec.blocks_for(seq.computed)

    def holders(self) -> list[Served]:
        """Return all that hold blocks between steps."""
        return self.running

    def sample(self, seq: Served, now: float) -> None:
        seq.generated += 1
        if seq.generated == 1:
            self.result.first_token_s[seq.index] = now
            self.result.events.append((now, "first_token", seq.index))
        if seq.generated == seq.request.output_tokens:
            self.kv.register(seq, seq.computed)
            self.running.remove(seq)
            self.kv.release(seq)
            self.result.finish_s[seq.index] = now
            self.result.events.append((now, "finish", seq.index))

    def counts(self) -> Counts:
        held = self.spec.kv_blocks - len(self.kv.free)
        return Counts(len(self.running), len(self.waiting), held, len(self.kv.free))


def simulate(
    specs: Sequence[ReplicaSpec],
    costs: Sequence[CostTable],
    requests: Sequence[Request],
    assignment: Sequence[int],
) -> Result:
    """Serve ``requests`` (in order of arrival), request i on replica ``assignment[i]``.

    Raises:
        ValueError: a request that could never fit into its replica's KV blocks, lengths below 1,
            arrivals out of order, or a prefix unit that is no multiple of the block size.
    """
    n = len(requests)
    result = Result([math.nan] * n, [math.nan] * n, [-1] * n, [0] * n, [], [])
    validate(specs, requests, assignment)
    for number, (spec, cost) in enumerate(zip(specs, costs, strict=True)):
        replica = Replica(spec, cost, result)
        arrivals = [Served(i, requests[i]) for i in range(n) if assignment[i] == number]
        now = 0.0
        while arrivals or replica.waiting or replica.running:
            if not replica.waiting and not replica.running:
                now = max(now, arrivals[0].request.arrival_s + spec.frontend_s)
            seen = replica.sees_until(now)
            while arrivals and arrivals[0].request.arrival_s + spec.frontend_s <= seen:
                replica.waiting.append(arrivals.pop(0))
            now = replica.step(now, seen)
        result.steps.append(replica.steps)
    result.events.sort(key=lambda event: event[0])  # stable: replicas keep their own order
    return result


def validate(
    specs: Sequence[ReplicaSpec], requests: Sequence[Request], assignment: Sequence[int]
) -> None:
    """Refuse what no engine could serve; see :func:`simulate`."""
    for spec in specs:
        if spec.prefix_block_tokens % spec.block_size:
            raise ValueError("prefix_block_tokens must be a multiple of block_size")
        if spec.max_num_batched_tokens < spec.max_num_seqs:
            raise ValueError("max_num_batched_tokens must be at least max_num_seqs")
    for i, (request, replica) in enumerate(zip(requests, assignment, strict=True)):
        tokens = request.prompt_tokens + request.output_tokens
        blocks, room = specs[replica].blocks_for(tokens), specs[replica].kv_blocks
        if request.prompt_tokens < 1 or request.output_tokens < 1:
            raise ValueError(f"request {i}: prompt and output need at least one token each")
        if blocks > room:
            raise ValueError(f"request {i}: {blocks} blocks never fit into {room}")
        if i and request.arrival_s < requests[i - 1].arrival_s:
            raise ValueError(f"request {i}: arrives before the request ahead of it")


def observe(
    steps: Sequence[Step], arrivals_s: Sequence[float], kv_blocks: int, time_s: float
) -> Counts:
    """State of one replica at ``time_s`` as a router sees it.

    Steps that end at ``time_s`` are over; the step that starts there is not yet scheduled, because
    an arrival at ``time_s`` still belongs to it.

    Args:
        steps: the replica's log.
        arrivals_s: when the requests sent to it so far reach the engine.
        kv_blocks: its number of KV blocks.
        time_s: when to look, seconds.
    """
    state, since = Counts(0, 0, 0, kv_blocks), -math.inf
    for step in steps:
        if step.start_s < time_s:
            state, since = (step.after if step.end_s <= time_s else step.during), step.seen_s
    late = sum(since < arrival <= time_s for arrival in arrivals_s)
    return Counts(state.running, state.waiting + late, state.held_blocks, state.free_blocks)
