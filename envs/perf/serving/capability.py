"""What a replica can serve: linear latencies, memory limit and expected output throughput.

For the capability-aware scheduling of heterogeneous clusters. Inspired by arXiv 2504.15303, whose
equations are not public in full: the form below is a reconstruction from its summaries (latency
linear in tokens, fitted by least squares; throughput of one instance under continuous batching).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from .deployment import Deployment
from .drafting import decode_round_s
from .iteration import step_s
from .kv_capacity import kv_blocks
from .kv_groups import KVGroups, kv_groups
from .tabulate import tabulate


@dataclass(frozen=True)
class Capability:
    """Linear model of one replica.

    ``prefill = a0 + a1 X + a2 sum x^2`` seconds for prompts of X tokens in all, ``decode = b0 +
    b1 B + b2 C`` seconds for a token of each of B sequences with C cached tokens in all,
    ``kv_blocks`` the capacity and ``groups`` what a sequence holds of it. ``shards``: prompts that
    are computed side by side, by dp ranks and pipeline stages.
    """

    prefill: tuple[float, float, float]
    decode: tuple[float, float, float]
    kv_blocks: int
    groups: KVGroups
    max_num_seqs: int
    shards: int = 1

    def prefill_s(self, prompt_tokens: float) -> float:
        """Return seconds to prefill one prompt alone."""
        a0, a1, a2 = self.prefill
        return a0 + a1 * prompt_tokens + a2 * prompt_tokens**2

    def decode_s(self, sequences: float, context_tokens: float) -> float:
        """Return seconds of one decode step."""
        b0, b1, b2 = self.decode
        return b0 + b1 * sequences + b2 * context_tokens

    def max_batch(
        self, prompt_tokens: float, output_tokens: float, tpot_s: float = math.inf
    ) -> int:
        """Return how many requests of these mean lengths run at once (at least 1).

        By memory, by ``max_num_seqs``, and so many that a request waits at most ``tpot_s`` for its
        next token. That is the batch over its throughput, a straight line in the batch.
        """
        by_memory = self.kv_blocks // self.groups.blocks_of(prompt_tokens + output_tokens)
        batch = min(by_memory, self.max_num_seqs)
        if math.isfinite(tpot_s):
            b0, b1, b2 = self.decode
            each_s = b1 + b2 * (prompt_tokens + output_tokens / 2)
            each_s += self.prefill_s(prompt_tokens) / self.shards / output_tokens
            batch = min(batch, math.floor((tpot_s - b0) / each_s))
        return max(1, batch)

    def throughput(self, prompt_tokens: float, output_tokens: float, batch: int = 0) -> float:
        """Return expected output tokens/s for these mean lengths.

        While ``batch`` requests (0: ``max_batch``) pass through, the replica runs that many
        prefills, ``shards`` at a time, and ``output_tokens`` decode steps at the mean context.
        """
        batch = batch or self.max_batch(prompt_tokens, output_tokens)
        context = batch * (prompt_tokens + output_tokens / 2)
        seconds = batch / self.shards * self.prefill_s(prompt_tokens)
        seconds += output_tokens * self.decode_s(batch, context)
        return batch * output_tokens / seconds


@lru_cache(maxsize=256)
def capability(deployment: Deployment) -> Capability:
    """Return the linear model of a replica, least squares over sampled batches."""
    table = tabulate(deployment)
    budget = deployment.max_num_batched_tokens
    prompts = [x for x in (64, 128, 256, 512, 1024, 2048, 4096, 8192) if x <= budget] or [budget]
    blocks, groups = kv_blocks(deployment), kv_groups(deployment)
    prefill = [((1, x, x * x), step_s(table, 0, 0, [(x, 0)])) for x in prompts]
    decode = [
        ((1, b, b * context), decode_round_s(deployment, table, b, b * context))
        for b in (1, 2, 4, 8, 16, 32, 64, 128, 256)
        for context in (256, 1024, 4096)
        if b <= deployment.max_num_seqs and (b == 1 or b * groups.blocks_of(context) <= blocks)
    ]
    limits = (blocks, groups, deployment.max_num_seqs, deployment.shards)
    return Capability(_fit(prefill), _fit(decode), *limits)


def _fit(samples: Sequence[tuple[tuple[float, ...], float]]) -> tuple[float, float, float]:
    """Return non-negative least-squares coefficients, relative errors weighted equally."""
    rows = np.array([row for row, _ in samples], np.float64)
    times = np.array([time for _, time in samples])
    weighted = rows / times[:, None]
    keep = list(range(rows.shape[1]))
    while True:  # drop the most negative coefficient until none is left
        fit = np.linalg.lstsq(weighted[:, keep], np.ones(len(times)), rcond=None)[0]
        if len(keep) == 1 or fit.min() >= 0:
            break
        keep.pop(int(fit.argmin()))
    result = np.zeros(rows.shape[1])
    result[keep] = fit
    return float(result[0]), float(result[1]), float(result[2])
