"""One replica served step by step, by clients that wait for their answers or by the clock.

The environment's engine plays requests that arrive by the clock; most public serving points come
from a fixed number of clients, each of which sends its next request when it has the last answer.
This plays both from the same costs (:func:`gpuyard.envs.perf.serving.iteration.step_s`) with the
scheduling of :mod:`gpuyard.envs.engine.serving.replica`, KV memory without end: the points are far
from its limit.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gpuyard.envs.perf import Deployment, tabulate
from gpuyard.envs.perf.serving.iteration import step_s


@dataclass
class Requests:
    """Requests and what becomes of them; times in seconds, NaN until they are known."""

    prompt_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]
    arrival_s: NDArray[np.float64]
    first_token_s: NDArray[np.float64] = field(init=False)
    finish_s: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        self.first_token_s = np.full(len(self.arrival_s), np.nan)
        self.finish_s = np.full(len(self.arrival_s), np.nan)

    def part(self, where: slice) -> dict[str, float]:
        """Return mean TTFT, TPOT and end-to-end time of some requests, and the median TPOT, in ms.

        A closed loop of B clients gives ``B / e2e`` requests per second.
        """
        ttft = self.first_token_s - self.arrival_s
        tpot = (self.finish_s - self.first_token_s) / (self.output_tokens - 1)
        e2e = self.finish_s - self.arrival_s
        return {
            "ttft_ms": 1e3 * float(ttft[where].mean()),
            "tpot_ms": 1e3 * float(tpot[where].mean()),
            "tpot_p50_ms": 1e3 * float(np.median(tpot[where])),
            "e2e_ms": 1e3 * float(e2e[where].mean()),
        }


@dataclass
class Sequence:
    """A request in the batch: tokens in its KV cache, tokens generated, tokens of this step."""

    index: int
    computed: int
    generated: int = 0
    now: int = 0


class Loop:
    """Plays the requests of one replica.

    Args:
        deployment: the replica.
        requests: those that arrive by the clock have a time, the others infinity: each follows
            when one before it ends.
        cached: prompts are found in the prefix cache, but for what no whole block holds.
    """

    def __init__(self, deployment: Deployment, requests: Requests, cached: bool = False) -> None:
        self.d, self.requests, self.cached = deployment, requests, cached
        self.table = tabulate(deployment)
        self.coming = deque(int(i) for i in np.flatnonzero(np.isfinite(requests.arrival_s)))
        self.after = deque(int(i) for i in np.flatnonzero(~np.isfinite(requests.arrival_s)))
        self.running: list[Sequence] = []

    def play(self) -> None:
        """Run until every request has ended."""
        now_s = seen_s = 0.0  # the start of this step and of the one before
        while self.coming or self.running:
            if not self.running:
                now_s = seen_s = max(now_s, self._ready_s(self.coming[0]))
            self._plan(seen_s if self.d.rules.asynchronous else now_s)
            seen_s, now_s = now_s, now_s + self._step_s()
            self._end_step(now_s)

    def _ready_s(self, index: int) -> float:
        return float(self.requests.arrival_s[index]) + self.d.frontend_ms * 1e-3

    def _known(self, sequence: Sequence) -> int:
        return int(self.requests.prompt_tokens[sequence.index]) + sequence.generated

    def _plan(self, until_s: float) -> None:
        """Give the step its tokens: who runs goes on, then who was there at ``until_s`` begins."""
        budget = self.d.max_num_batched_tokens
        for sequence in self.running:
            sequence.now = min(self._known(sequence) - sequence.computed, budget)
            budget -= sequence.now
        while self.coming and budget > 0 and len(self.running) < self.d.max_num_seqs:
            if self._ready_s(self.coming[0]) > until_s:
                break
            sequence = Sequence(self.coming.popleft(), 0)
            if self.cached:
                size = self.d.block_size
                sequence.computed = (self._known(sequence) - 1) // size * size
            sequence.now = min(self._known(sequence) - sequence.computed, budget)
            budget -= sequence.now
            self.running.append(sequence)

    def _step_s(self) -> float:
        decodes = [s.computed for s in self.running if s.generated]
        chunks = [(s.now, s.computed) for s in self.running if s.now and not s.generated]
        sampling = sum(s.computed + s.now == self._known(s) for s in self.running)
        return step_s(self.table, len(decodes), sum(decodes), chunks, sampling)

    def _end_step(self, now_s: float) -> None:
        requests, going = self.requests, []
        for sequence in self.running:
            sequence.computed += sequence.now
            if sequence.now and sequence.computed == self._known(sequence):
                sequence.generated += 1
                if sequence.generated == 1:
                    requests.first_token_s[sequence.index] = now_s
            if sequence.generated == requests.output_tokens[sequence.index]:
                requests.finish_s[sequence.index] = now_s
                if self.after:
                    requests.arrival_s[self.after[0]] = now_s
                    self.coming.append(self.after.popleft())
            else:
                going.append(sequence)
        self.running = going
