"""The switches of a replica's scheduler, in the words of the engine's records."""

from __future__ import annotations

from ..perf.serving.deployment import Deployment
from ..perf.serving.scheduling import BATCHING, POLICIES, RESERVATIONS


def scheduling(deployment: Deployment) -> dict[str, float]:
    """Return the fields of REPLICA_SPEC that say how a replica batches, orders and stores.

    An engine that computes prompts first, or whole, asks for the blocks of all of a prompt.
    """
    d = deployment
    return {
        "whole_prompt": d.rules.whole_prompt or d.prefill_first or not d.chunked_prefill,
        "batching": BATCHING.index(d.batching),
        "batch_wait_s": d.batch_wait_ms * 1e-3,
        "chunked": d.chunked_prefill,
        "most_chunk": d.long_prefill_token_threshold or d.max_num_batched_tokens,
        "prefill_first": d.prefill_first,
        "policy": POLICIES.index(d.scheduling_policy),
        "reserves": RESERVATIONS.index(d.kv_reservation),
    }
