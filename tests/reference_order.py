"""Orders of the naive reference: who is admitted next, who is preempted, what is reserved."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reference_kv import KVBlocks, Request, Served

if TYPE_CHECKING:
    from reference_steps import ReplicaSpec


def first_of(
    waiting: list[Served], spec: ReplicaSpec, kv: KVBlocks, now: float, pace_s: float
) -> Served:
    """Return who is admitted next; ``pace_s`` are the seconds of a prompt token."""
    if spec.policy == "priority":
        return min(waiting, key=lambda seq: (-seq.request.priority, seq.index))
    if spec.policy == "fcfs" or len(waiting) > 128:
        return waiting[0]

    def cached(seq: Served) -> int:
        return len(kv.cached_prefix(seq)) * spec.prefix_block_tokens

    def ratio(seq: Served) -> float:
        prefill_s = (seq.tokens - cached(seq)) * pace_s
        queued_s = seq.request.arrival_s + spec.frontend_s
        return (now - queued_s + prefill_s) / prefill_s

    return max(waiting, key=cached if spec.policy == "lpm" else ratio)  # the first of equals


def last_of(running: list[Served], spec: ReplicaSpec) -> Served:
    """Return who is preempted."""
    if spec.policy == "priority":
        return max(running, key=lambda seq: (-seq.request.priority, seq.index))
    return running[-1]


def reserved_tokens(request: Request, reserves: str) -> int:
    """Return the tokens of a contiguous chunk."""
    output = request.max_tokens
    if reserves == "contiguous-oracle":
        output = request.output_tokens
    if reserves == "contiguous-pow2":
        rounded = 1
        while rounded < request.output_tokens:
            rounded *= 2
        output = min(rounded, request.max_tokens)
    return request.prompt_tokens + output
