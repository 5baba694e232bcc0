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
* A step drafts if, when it is planned, few enough sequences decode; its cost goes by those that are
  still there when preemption has ended. Blocks held for rejected tokens stay with their request.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from reference_kv import KVBlocks, Node, Request, Served
from reference_order import first_of, last_of, reserved_tokens
from reference_speculation import Drafting, accepted

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
    batching: str = "continuous"
    batch_wait_s: float = 0.0
    chunked: bool = True
    prefill_first: bool = False
    threshold: int = 0  # tokens of one prompt in a step at most, 0: no bound
    policy: str = "fcfs"
    reserves: str = "paged"
    drafting: Drafting | None = None

    def chunk_for(self, tokens: int) -> int:
        """Blocks of a contiguous chunk."""
        chunk = 1
        while chunk * self.block_size < tokens:
            chunk *= 2
        return chunk

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
    cost: CostTable,
    decodes: list[int],
    chunks: list[tuple[int, int]],
    n: int,
    width: int = 1,
    draft_s: float = 0.0,
) -> float:
    """Seconds of one step, the formulas of ``cost_table`` word for word.

    Args:
        cost: the replica's table.
        decodes: cached tokens of every decoding sequence.
        chunks: ``(new tokens, cached tokens)`` of every prefill chunk.
        n: sequences that sample.
        width: tokens of every decoding sequence.
        draft_s: what drafting adds.
    """
    k = {name: float(cost.coefficients[name]) for name in COST.names or ()}
    seqs, cached = len(decodes), sum(decodes)
    total = float(cost.linear_s[seqs * width + sum(q for q, _ in chunks)]) + draft_s
    total += float(cost.head_s[n + seqs * (width - 1)])
    prompt = sum(q for q, _ in chunks)
    if chunks and k["mix_token_s"]:
        total += (k["mix_seq_s"] + k["mix_cell_s"] * prompt) * seqs + k["mix_token_s"] * cached
    elif seqs:
        memory = (k["dec_token_s"] + k["dec_again_s"] * (width - 1)) * cached
        memory += k["dec_row_s"] * seqs * width
        total += k["dec_fixed_s"] + k["dec_seq_s"] * seqs
        total += k["dec_log_s"] * math.log2(1 + cached / seqs / 1024)
        total += ((k["dec_flop_s"] * cached * width) ** 3 + memory**3) ** (1 / 3)
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

    seed = 0  # of what requests accept of drafted tokens
    drafted = 0  # tokens that each decoding sequence drafts in the step under way

    def __init__(self, spec: ReplicaSpec, cost: CostTable, result: Result) -> None:
        self.spec, self.cost, self.result = spec, cost, result
        self.waiting: list[Served] = []
        self.running: list[Served] = []
        self.kv = KVBlocks(spec.kv_blocks, spec.block_size, spec.prefix_block_tokens)
        self.steps: list[Step] = []

    def sees_until(self, now: float) -> float:
        """Until when requests have to be here for the step that starts ``now``."""
        return self.steps[-1].start_s if self.spec.lag and self.running else now

    def blocks_for(self, seq: Served, tokens: int) -> int:
        """Blocks that an admitted request holds with ``tokens`` computed tokens."""
        if self.spec.reserves == "paged":
            return self.spec.blocks_for(tokens)
        return self.spec.chunk_for(reserved_tokens(seq.request, self.spec.reserves))

    def ready_s(self, seq: Served) -> float:
        """When a request has reached the engine."""
        return seq.request.arrival_s + self.spec.frontend_s

    def start_s(self, arrivals: list[Served]) -> float:
        """When a replica that runs nothing begins a step, if not when the last one ended."""
        return -math.inf if self.waiting else self.ready_s(arrivals[0])

    def run(self, arrivals: list[Served]) -> None:
        """Serve requests in their order, all of them."""
        now = 0.0
        while arrivals or self.waiting or self.running:
            if not self.running:
                now = max(now, self.start_s(arrivals))
            seen = self.sees_until(now)
            while arrivals and self.ready_s(arrivals[0]) <= seen:
                self.waiting.append(arrivals.pop(0))
            now = self.step(now, seen)

    def schedule_prompts(self, now: float) -> list[tuple[Served, int]]:
        """Choose a step without decodes, if there is any prompt for it."""
        budget, plan = self.spec.max_num_batched_tokens, []
        for seq in self.running:
            if seq.computed < seq.prefill_target:
                new = min(seq.tokens - seq.computed, budget)
                need = self.blocks_for(seq, seq.computed + new) - len(seq.blocks)
                self.compute(seq, new, need)
                plan.append((seq, new))
                budget -= new
        return plan + self.schedule_waiting(now, budget)

    def schedule(self, now: float) -> list[tuple[Served, int]]:
        """Choose this step's requests and their new tokens, as vLLM v1's scheduler does."""
        if self.spec.prefill_first and (prompts := self.schedule_prompts(now)):
            return prompts
        budget, plan, preempted = self.spec.max_num_batched_tokens, [], False
        position, self.drafted, how = 0, 0, self.spec.drafting
        if how and 0 < sum(map(self.decodes, self.running)) <= how.most:
            self.drafted = how.length
        short = self.runs_short()
        while position < len(self.running) and budget > 0:
            seq = self.running[position]
            new = min(seq.tokens - seq.computed, budget, self.spec.threshold or budget)
            need = self.lacking(seq, new)
            while need > len(self.kv.free) and seq in self.running:
                gone = self.preempt(now)
                preempted = True
                for entry in [entry for entry in plan if entry[0] is gone]:
                    plan.remove(entry)
                    budget += entry[1]
                    position -= 1
            if seq not in self.running:
                continue
            self.kv.allocate(seq, need)
            if not short:
                self.register(seq, new)
            plan.append((seq, new))
            budget -= new + (self.drafted if self.decodes(seq) else 0)
            position += 1
        for seq, new in plan if short else []:
            self.register(seq, new)
        return plan if preempted else plan + self.schedule_waiting(now, budget)

    def runs_short(self) -> bool:
        """Tell whether somebody has to be preempted; then nobody is in the cache before that."""
        budget, need = self.spec.max_num_batched_tokens, 0
        for seq in self.running:
            new = min(seq.tokens - seq.computed, budget, self.spec.threshold or budget)
            need += self.lacking(seq, new)
            budget -= new + (self.drafted if self.decodes(seq) else 0)
        return need > len(self.kv.free)

    def lacking(self, seq: Served, new: int) -> int:
        """Blocks that a running request lacks for ``new`` tokens, and for drafted ones."""
        how = self.spec.drafting
        ahead = how.lookahead if how and self.drafted and self.decodes(seq) else 0
        return max(0, self.blocks_for(seq, seq.computed + new + ahead) - len(seq.blocks))

    def schedule_waiting(self, now: float, budget: int) -> list[tuple[Served, int]]:
        """Admit from the queue as far as it goes."""
        plan = []
        while self.waiting and budget > 0:
            if len(self.running) == self.spec.max_num_seqs:
                break
            pace_s = float(self.cost.linear_s[self.spec.max_num_batched_tokens])
            pace_s /= self.spec.max_num_batched_tokens
            seq = first_of(self.waiting, self.spec, self.kv, now, pace_s)
            new = self.try_to_admit(now, seq, budget)
            if new == 0:
                break
            plan.append((seq, new))
            budget -= new
        return plan

    def decodes(self, seq: Served) -> bool:
        """Tell whether a running request has computed all that it was admitted with."""
        return seq.computed >= seq.prefill_target

    def try_to_admit(self, now: float, seq: Served, budget: int) -> int:
        """Admit a waiting request; returns its new tokens, 0 if it does not fit."""
        hits = self.kv.cached_prefix(seq)
        hit_blocks = [block for node in hits for block in node.blocks]
        hit_tokens = len(hits) * self.spec.prefix_block_tokens
        new = min(seq.tokens - hit_tokens, budget, self.spec.threshold or budget)
        if not self.spec.chunked and hit_tokens + new < seq.tokens:
            return 0
        need = self.blocks_for(seq, hit_tokens + new) - len(hit_blocks)
        asked = self.blocks_for(seq, seq.tokens if self.spec.whole_prompt else hit_tokens + new)
        available = len(self.kv.free) - sum(block in self.kv.free for block in hit_blocks)
        if asked - len(hit_blocks) > available:
            return 0
        self.waiting.remove(seq)
        self.admit(now, seq, hits)
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
        self.register(seq, new)

    def register(self, seq: Served, new: int) -> None:
        """Let the prefix cache know the prompt's units that a step completes."""
        self.kv.register(seq, min(seq.computed + new, seq.request.prompt_tokens))

    def preempt(self, now: float) -> Served:
        seq = last_of(self.running, self.spec)
        self.running.remove(seq)
        self.kv.release(seq)
        seq.computed = 0
        self.waiting.insert(0, seq)
        self.result.preemptions[seq.index] += 1
        self.result.events.append((now, "preempt", seq.index))
        return seq

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
        draft_s, how = 0.0, self.spec.drafting
        if how and self.drafted and decodes:
            draft_s = how.seconds(len(decodes), sum(decodes))
        width = 1 + self.drafted
        end = start + step_cost_s(self.cost, decodes, chunks, sampling, width, draft_s)
        self.under_way = Step(seen, start, end, self.counts(), self.counts())
        return end

    def end_step(self) -> None:
        """Let the step under way end."""
        sampling = [seq for seq, new in self.plan if seq.computed + new == seq.tokens]
        drafted = [seq for seq, _ in self.plan if self.drafted and self.decodes(seq)]
        for seq, new in self.plan:
            seq.computed += new
        for seq in sampling:
            more, how = 0, self.spec.drafting
            if how and seq in drafted:
                more = accepted(how, self.seed, seq.index, seq.generated)
            self.sample(seq, self.under_way.end_s)
            for _ in range(more):
                if seq.generated < seq.request.output_tokens:
                    seq.computed += 1
                    self.sample(seq, self.under_way.end_s)
        self.running.sort(key=lambda seq: seq.computed < seq.prefill_target)  # stable
        self.kv.check(self.holders())
        held = [len(seq.blocks) - self.blocks_due(seq) for seq in self.running]
        assert not any(held) or (self.spec.drafting and min(held) >= 0)
        self.steps.append(replace(self.under_way, after=self.counts()))

    def blocks_due(self, seq: Served) -> int:
        """Return the blocks that a running request holds."""
        return self.blocks_for(seq, seq.computed)

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


class Batches(Replica):
    """An engine that takes a batch when it is empty and returns it when all of it is done."""

    def start_s(self, arrivals: list[Served]) -> float:
        here = [self.ready_s(seq) for seq in self.waiting + arrivals]
        full_s = (here + [math.inf] * self.spec.max_num_seqs)[self.spec.max_num_seqs - 1]
        return min(here[0] + self.spec.batch_wait_s, full_s)

    def begin_step(self, start: float, seen: float) -> float:
        if self.running:
            self.steps_done += 1
            decodes = [self.prompt + self.steps_done - 1] * len(self.running)
            seconds = step_cost_s(self.cost, decodes, [], len(decodes))
        else:
            self.form()
            chunks = [(self.prompt, 0)] * len(self.running)
            seconds = step_cost_s(self.cost, [], chunks, len(chunks))
        self.under_way = Step(seen, start, start + seconds, self.counts(), self.counts())
        return start + seconds

    def form(self) -> None:
        """Take as many of the queue as go together."""
        for count in range(min(self.spec.max_num_seqs, len(self.waiting)), 0, -1):
            batch = self.waiting[:count]
            self.prompt = max(seq.request.prompt_tokens for seq in batch)
            room = max(
                reserved_tokens(seq.request, self.spec.reserves) - seq.request.prompt_tokens
                for seq in batch
            )
            blocks = self.spec.chunk_for(self.prompt + room)
            if count == 1 or (
                count * blocks <= self.spec.kv_blocks
                and count * self.prompt <= self.spec.max_num_batched_tokens
            ):
                break
        self.running, self.waiting = batch, self.waiting[count:]
        self.output = max(seq.request.output_tokens for seq in batch)
        self.steps_done = 0
        for seq in batch:
            self.kv.allocate(seq, blocks)
            self.result.cached_tokens[seq.index] = 0

    def end_step(self) -> None:
        end_s = self.under_way.end_s
        for seq in self.running:
            if self.steps_done == 0:
                self.result.first_token_s[seq.index] = end_s
            if self.steps_done == self.output - 1:
                self.result.finish_s[seq.index] = end_s
                self.kv.release(seq)
        self.kv.check([seq for seq in self.running if seq.blocks])
        if self.steps_done == self.output - 1:
            self.running = []
        self.steps.append(replace(self.under_way, after=self.counts()))


def simulate(
    specs: Sequence[ReplicaSpec],
    costs: Sequence[CostTable],
    requests: Sequence[Request],
    assignment: Sequence[int],
    seed: int = 0,
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
        replica = (Replica if spec.batching == "continuous" else Batches)(spec, cost, result)
        replica.seed = seed
        replica.run([Served(i, requests[i]) for i in range(n) if assignment[i] == number])
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
