"""The time of one engine step, as a sum over kernels.

Per layer: linear ops on all tokens of the step, decode attention, prefill attention, elementwise
work and two all-reduces; on top the LM head of the sampling sequences and the host::

    step = L (gemm(T) + elementwise(T) + 2 all_reduce(2 T H) + experts(T)) + host
           + L attention(B, C, chunks) + lm_head(sampling)

A batch is spread evenly over the dp ranks, and with pipeline stages over as many micro-batches, all
of which are under way: a round, in which every sequence gets a token, takes the time of one
micro-batch through all stages, and the bubble (``pipeline_bubble``) on top.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import attention
from . import expert_parallel as wide
from .collectives import link_bytes_per_s
from .cost_table import COST, CostTable
from .deployment import Deployment
from .host import host_line_s, launch_s
from .tokenwise import seconds_per_token

Chunk = tuple[int, int]  # new tokens, tokens already cached


def attention_s(deployment: Deployment) -> dict[str, float]:
    """Return the attention coefficients of a cost table, all layers of the slowest rank.

    Layers with a window look back that far at any context (too far while it is shorter), layers
    with linear attention read and write their state.

    With dp > 1 a rank decodes 1/dp of the sequences, while a chunk runs on one rank alone: a step
    whose chunks are few pays the linear work that :func:`.tokenwise.linear_s` spread over all ranks
    once more. Micro-batches likewise.
    """
    d, model = deployment, deployment.model
    result = dict.fromkeys(COST.names or (), 0.0)
    for layers, kernels in (
        (model.full_layers, _full_layer(d)),
        (model.window_layers, _window_layer(d)),
        (model.linear_layers, attention.linear(d.gpu, model.state_bytes / d.tp)),
    ):
        for name, value in kernels.items():
            result[name] += layers * value
    result["pre_pad"] = _full_layer(d)["pre_pad"]
    if d.two_batch_overlap:
        for name in ("pre_flop_s", "pre_tile_s", "pre_query_s", "pre_cache_s"):
            result[name] *= wide.slowdown(d)
    for name in result:
        if name.startswith(("dec", "mix")) and name not in ("dec_fixed_s", "dec_log_s"):
            result[name] /= d.shards
    result["pre_fixed_s"] += model.layers * launch_s(d)
    result["pre_alone_s"] = (1 - 1 / d.shards) * seconds_per_token(d)
    return {
        name: value * (1 if name == "pre_pad" else d.round)
        for name, value in result.items()
        if name.startswith(_ATTENTION)
    }


_ATTENTION = ("dec_", "mix_", "pre_")


def _full_layer(d: Deployment) -> dict[str, float]:
    """Return the coefficients of a layer that sees the whole context."""
    if d.model.mla:
        decode = attention.decode_mla(d.gpu, d.rank_heads, d.kv_dtype)
        return decode | attention.prefill_mla(d.gpu, d.rank_heads)
    kv_heads = d.model.full_kv_heads or d.model.kv_heads
    return _gqa_layer(d, kv_heads, d.model.full_head_dim or d.model.head_dim)


def _window_layer(d: Deployment) -> dict[str, float]:
    """Return the coefficients of a layer with a window."""
    layer = _gqa_layer(d, d.model.kv_heads, d.model.head_dim)
    return layer if d.attention == "naive" else attention.windowed(layer, d.model.window)


def _gqa_layer(d: Deployment, kv_heads: int, dim: int) -> dict[str, float]:
    shape = (d.rank_heads, max(1, kv_heads // d.tp), dim, d.kv_dtype)
    decode = attention.in_engine(attention.decode_gqa(d.gpu, *shape), d.gpu, dim, d.kv_dtype)
    decode |= attention.mixed_gqa(d.gpu, d.rank_heads, dim, d.stack)
    layer = decode | attention.prefill_gqa(d.gpu, *shape)
    return attention.naive(layer, d.gpu, d.rank_heads, dim) if d.attention == "naive" else layer


def step_s(
    table: CostTable,
    sequences: int,
    context: int,
    chunks: Iterable[Chunk] = (),
    sampling: int | None = None,
) -> float:
    """Return seconds of a step, as the engine computes it.

    Args:
        table: the replica's costs.
        sequences: decoding sequences.
        context: their cached tokens in total.
        chunks: prompt chunks.
        sampling: sequences that sample a token; default all decodes and all chunks.
    """
    chunks = list(chunks)
    tokens = sequences + sum(q for q, _ in chunks)
    samples = sequences + len(chunks) if sampling is None else sampling
    seconds = table.linear_s[tokens] + table.head_s[samples]
    c = table.coefficients
    if chunks and c["mix_token_s"]:
        per_sequence = c["mix_seq_s"] + c["mix_cell_s"] * (tokens - sequences)
        seconds += per_sequence * sequences + c["mix_token_s"] * context
    else:
        seconds += decode_s(c, sequences, context)
    seconds += prefill_s(c, chunks)
    return float(max(seconds, c["host_s"] + c["host_seq_s"] * samples))


def decode_s(
    c: np.void, sequences: ArrayLike, context: ArrayLike, width: int = 1
) -> NDArray[np.float64]:
    """Return seconds of decode attention; formula in :mod:`.cost_table`.

    ``width`` tokens of each sequence are verified at once.
    """
    b, tokens = np.asarray(sequences, np.float64), np.asarray(context, np.float64)
    mean = tokens / np.maximum(b, 1)
    memory = (c["dec_token_s"] + c["dec_again_s"] * (width - 1)) * tokens
    memory = memory + c["dec_row_s"] * b * width
    moved = np.cbrt((c["dec_flop_s"] * tokens * width) ** 3 + memory**3)
    fixed = c["dec_fixed_s"] + c["dec_log_s"] * np.log2(1 + mean / 1024) + c["dec_seq_s"] * b
    return np.where(b > 0, fixed + moved, 0.0)


def prefill_s(c: np.void, chunks: Iterable[Chunk]) -> float:
    """Return seconds of prefill attention; formula in :mod:`.cost_table`."""
    total_s = longest_s = 0.0
    for q, cached in chunks:
        flop = c["pre_flop_s"] * q * (cached + (q + c["pre_pad"]) / 2)
        tile = c["pre_tile_s"] * (q + c["pre_pad"])
        memory = c["pre_query_s"] * q + c["pre_cache_s"] * (cached + q)
        chunk_s = np.cbrt(flop**3 + tile**3 + memory**3)
        total_s += chunk_s
        longest_s = max(longest_s, chunk_s + c["pre_alone_s"] * q)
    return (
        float(max(longest_s, total_s / (1 + c["other_shards"])) + c["pre_fixed_s"])
        if total_s
        else 0.0
    )


def coefficients(deployment: Deployment) -> np.void:
    """Return the :data:`~gpuyard.envs.perf.serving.cost_table.COST` record of a replica."""
    d, model = deployment, deployment.model
    record: np.void = np.zeros(1, COST)[0]
    for name, value in attention_s(d).items():
        record[name] = value
    record["host_s"], record["host_seq_s"] = host_line_s(d)
    record["other_shards"] = d.shards - 1
    record["flop_per_token"] = 2 * (model.active_params - model.embedding_params) / d.gpus
    record["peak_flops"] = d.gpu.peak_flops(d.dtype)
    # ring all-reduce: each of n GPUs sends 2 (n-1)/n of the payload, twice per layer
    ranks = max(d.tp, d.stage_gpus if model.experts else 1)
    record["comm_bytes_per_token"] = (
        2 * model.layers / d.pp * 2 * (ranks - 1) / ranks * 2 * model.hidden
    )
    record["comm_bytes_per_s"] = link_bytes_per_s(ranks, d.gpu, d.links)
    return record
