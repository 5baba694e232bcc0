"""Seconds of one engine step, from the cost table of the replica's kind.

The forms stand in :mod:`gpuyard.envs.perf.serving.cost_table`.
"""

from __future__ import annotations

import math

import numpy as np

from ..core.compile import kernel


@kernel
def p3(a, b, c):
    """Return the 3-norm: a maximum with round corners, for parts that overlap."""
    return np.cbrt(a * a * a + b * b * b + c * c * c)


@kernel
def decode_attention_s(cost, sequences, context, width):
    """Return the attention seconds of ``sequences`` decodes over ``context`` cached tokens.

    ``width`` tokens of each are verified at once.
    """
    if sequences == 0:
        return 0.0
    load = cost.dec_token_s * context + cost.dec_again_s * context * (width - 1)
    load += cost.dec_row_s * sequences * width
    if cost.dec_flop_s > 0.0:
        load = p3(load, cost.dec_flop_s * context * width, 0.0)
    shape = math.log2(1.0 + context / (1024.0 * sequences))
    return cost.dec_fixed_s + cost.dec_log_s * shape + cost.dec_seq_s * sequences + load


@kernel
def mixed_attention_s(cost, sequences, context, prompt_tokens, width):
    """Return the attention seconds of decodes in a step that also computes ``prompt_tokens``."""
    if cost.mix_token_s == 0.0:
        return decode_attention_s(cost, sequences, context, width)
    per_sequence = cost.mix_seq_s + cost.mix_cell_s * prompt_tokens
    return per_sequence * sequences + cost.mix_token_s * context


@kernel
def prefill_attention_s(cost, chunk, cached):
    """Return the attention seconds of ``chunk`` prompt tokens on top of ``cached`` ones."""
    rows = chunk + cost.pre_pad
    flop = cost.pre_flop_s * chunk * (cached + 0.5 * rows)
    tile = cost.pre_tile_s * rows
    memory = cost.pre_query_s * chunk + cost.pre_cache_s * (cached + chunk)
    return p3(flop, tile, memory)


@kernel
def alone_s(cost, chunk, attention_s):
    """Return the seconds of a chunk for its shard, beyond the tables, if the others have none."""
    return attention_s + cost.pre_alone_s * chunk


@kernel
def shared_s(cost, attention_s, longest_s):
    """Return the seconds of a step's chunks, which are spread over all shards.

    The sum of their attention, evenly, or the longest of :func:`alone_s`, if that is more.
    """
    return max(longest_s, attention_s / (1.0 + cost.other_shards))


@kernel
def host_step_s(cost, sampling):
    """Return the seconds that the host needs for a step, which the GPU's hide if longer."""
    return cost.host_s + cost.host_seq_s * sampling


@kernel
def prompts_step_s(
    w, cost, kind, tokens, decodes, width, context, sampling, attention_s, longest_s, more_s
):
    """Return the seconds of a step of ``tokens`` that computes prompts.

    Args:
        w: the bundle.
        cost: the replica's row of the cost tables.
        kind: its number.
        tokens: of prompts and decodes.
        decodes: sequences that decode beside them.
        width: tokens of each of those.
        context: their cached tokens.
        sampling: sequences that get a token.
        attention_s: of all chunks.
        longest_s: the longest of :func:`alone_s`.
        more_s: for drafting, and for links that others use.
    """
    seconds = w.linear_s[kind, tokens] + w.head_s[kind, sampling + decodes * (width - 1)]
    seconds += mixed_attention_s(cost, decodes, context, tokens - decodes * width, width)
    seconds += cost.pre_fixed_s + shared_s(cost, attention_s, longest_s) + more_s
    return max(seconds, host_step_s(cost, sampling))


@kernel
def decode_gpu_s(cost, linear, head, kind, sequences, context):
    """Return the GPU's seconds of a step that only decodes."""
    return (
        linear[kind, sequences]
        + head[kind, sequences]
        + decode_attention_s(cost, sequences, context, 1)
    )


@kernel
def decode_step_s(cost, linear, head, kind, sequences, context):
    """Return the seconds of a step that only decodes."""
    gpu_s = decode_gpu_s(cost, linear, head, kind, sequences, context)
    return max(gpu_s, host_step_s(cost, sequences))
