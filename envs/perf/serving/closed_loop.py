"""What a closed loop of clients measures at a replica, by the cost model.

With N clients, prompts of p tokens and answers of o tokens,

    TTFT = frontend + sum over chunks of step(0, chunk)                              N = 1
    ITL  = step(N, N (p + o/2)) + (N - 1)/o * sum over chunks of
           [step(N - 1, (N - 1)(p + o/2), chunk) - step(N - 1, (N - 1)(p + o/2))]

as each answer lasts while those of N - 1 others begin. Source: perf_models section 3.8 of the
reference. Prompts come one by one here. Where all answers are equally long they come in waves, and
ITL is up to a quarter off. The TTFT of more than one client depends on how they start, and is
not predicted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .cost_table import CostTable
from .deployment import Deployment
from .iteration import Chunk, step_s
from .kv_capacity import kv_blocks
from .kv_groups import kv_groups
from .scheduling import changed
from .tabulate import tabulate


@dataclass(frozen=True)
class Measurement:
    """Times of one closed loop.

    Attributes:
        concurrency: clients, each with one request at a time.
        prompt_tokens: of a request.
        output_tokens: of a request, 2 or more.
        ttft_s: to the first token, s; nan: not measured.
        itl_s: mean between two tokens, s; nan: not measured.
    """

    concurrency: int
    prompt_tokens: int
    output_tokens: int
    ttft_s: float = np.nan
    itl_s: float = np.nan


def check(deployment: Deployment, row: Measurement) -> None:
    """Refuse a closed loop that the replica does not run as a whole.

    Raises:
        ValueError: naming the value and what is allowed.
    """
    if others := changed(deployment, allowed=("prefix_caching",)):
        raise ValueError(f"{others[0]}: a replica that batches in the engine's own way is fitted")
    most = deployment.max_num_seqs
    if not 1 <= row.concurrency <= most:
        raise ValueError(
            f"concurrency = {row.concurrency}: the replica runs 1 to max_num_seqs = {most} requests"
        )
    needed = kv_groups(deployment).blocks_of(row.prompt_tokens + row.output_tokens)
    if (fits := kv_blocks(deployment) // needed) < row.concurrency:
        raise ValueError(
            f"concurrency = {row.concurrency}: the KV cache of the replica holds {fits:.0f} "
            f"requests of {row.prompt_tokens} and {row.output_tokens} tokens"
        )


def observed(measured: Sequence[Measurement]) -> Iterator[float]:
    """Yield the times that are fitted, s: each row's TTFT if usable, then its ITL if given."""
    for row in measured:
        if row.concurrency == 1 and np.isfinite(row.ttft_s):
            yield row.ttft_s
        if np.isfinite(row.itl_s):
            yield row.itl_s


def ttft_flags(measured: Sequence[Measurement]) -> NDArray[np.float64]:
    """Return 1 for each time of :func:`observed` that is a TTFT, else 0."""
    flags: list[float] = []
    for row in measured:
        flags += [1.0] if row.concurrency == 1 and np.isfinite(row.ttft_s) else []
        flags += [0.0] if np.isfinite(row.itl_s) else []
    return np.array(flags)


def predicted(deployment: Deployment, measured: Sequence[Measurement]) -> NDArray[np.float64]:
    """Return the model's times in the order of :func:`observed`, s."""
    return times_s(tabulate(deployment), deployment, measured)


def times_s(
    table: CostTable, d: Deployment, measured: Sequence[Measurement]
) -> NDArray[np.float64]:
    """Return times in the order of :func:`observed`, whatever costs the replica has, s."""
    times: list[float] = []
    for row in measured:
        if row.concurrency == 1 and np.isfinite(row.ttft_s):
            times.append(d.frontend_ms * 1e-3 + _prefill_s(table, d, row, 0))
        if np.isfinite(row.itl_s):
            others = row.concurrency - 1
            context = _context(row, row.concurrency)
            seconds = step_s(table, row.concurrency, context)
            if others:
                seconds += others / row.output_tokens * _prefill_s(table, d, row, others)
            times.append(seconds)
    return np.array(times)


def _context(row: Measurement, sequences: int) -> int:
    """Return the mean cached tokens of ``sequences`` answers under way."""
    return round(sequences * (row.prompt_tokens + row.output_tokens / 2))


def _prefill_s(table: CostTable, d: Deployment, row: Measurement, others: int) -> float:
    """Return the seconds that one prompt takes, or adds to the steps of ``others``."""
    context, total_s = _context(row, others), 0.0
    alone_s = step_s(table, others, context) if others else 0.0
    for chunk in _chunks(row.prompt_tokens, d.max_num_batched_tokens - others):
        ends = sum(chunk) == row.prompt_tokens
        total_s += step_s(table, others, context, [chunk], others + ends) - alone_s
    return total_s


def _chunks(prompt_tokens: int, budget: int) -> Iterator[Chunk]:
    """Yield a prompt's chunks: new tokens, tokens before them."""
    for start in range(0, prompt_tokens, budget):
        yield min(budget, prompt_tokens - start), start
