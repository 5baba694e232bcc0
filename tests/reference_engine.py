"""One replica of the naive reference: a FIFO of waiting requests, a list of running ones.

It follows vLLM v1's scheduler (decodes first, chunked prefill under a token budget, recompute
preemption of the last admitted request). Conventions where the words of a specification leave room:

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
from dataclasses import replace

from reference_kv import KVBlocks, Node, Served
from reference_order import first_of, last_of, reserved_tokens
from reference_speculation import accepted
from reference_steps import Counts, ReplicaSpec, Result, Step, step_cost_s

from gpuyard.envs.perf.serving.cost_table import CostTable


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
