"""A replica of the naive reference that takes batches as wholes."""

from __future__ import annotations

import math
from dataclasses import replace

from reference_engine import Replica
from reference_kv import Served
from reference_order import reserved_tokens
from reference_steps import Step, step_cost_s


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
