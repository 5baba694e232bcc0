"""What a replica of the naive reference is, what its steps cost, and what is noted of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from reference_speculation import Drafting

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
