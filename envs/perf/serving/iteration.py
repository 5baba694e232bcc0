"""The time of one engine step, as a sum over kernels.

Per layer: linear ops on all tokens of the step, decode attention, prefill attention, elementwise
work and two all-reduces; on top the LM head of the sampling sequences and the host::

    step = L (gemm(T) + elementwise(T) + 2 all_reduce(2 T H) + experts(T)) + host
           + L attention(B, C, chunks) + lm_head(sampling)
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import attention
from .collectives import all_reduce_s, link_bytes_per_s
from .constants import constants
from .cost_table import COST, CostTable
from .deployment import Deployment
from .gemm import gemm_s
from .host import elementwise_s, host_line_s, host_s, launch_s, sampler_s
from .moe import experts_s

Chunk = tuple[int, int]  # new tokens, tokens already cached


def linear_s(deployment: Deployment, tokens: ArrayLike) -> NDArray[np.float64]:
    """Return seconds of all token-wise work and the host for a step of ``tokens`` tokens.

    With dp > 1 the tokens are spread evenly over the dp ranks and meet in the experts.
    """
    d, model = deployment, deployment.model
    total = np.asarray(tokens, np.float64)
    rank = total / d.dp
    layer = elementwise_s(d, rank) + _reduce_s(d, rank, d.tp)
    seconds = _mixers_linear_s(d, rank) + model.layers * layer + host_s(d)
    if model.dense_layers:
        ffn = _ffn_s(d, rank, model.ffn) + _reduce_s(d, rank, d.tp)
        seconds = seconds + model.dense_layers * ffn
    if model.moe_layers:
        block = gemm_s(rank, model.experts, model.hidden, d.gpu, _plain(d))
        row = constants("moe", d.gpu, d.dtype, d.stack)
        block = block + experts_s(total, model, d.gpu, d.dtype, d.moe_tp, d.ep, row)
        if model.shared_ffn:
            block = block + _ffn_s(d, rank, model.shared_ffn)
        # dp > 1: dispatch and combine move what one all-reduce over all ranks moves
        block = block + _reduce_s(d, total if d.dp > 1 else rank, d.gpus)
        if d.dp > 1:
            block = block + constants("dispatch", d.gpu)["layer_us"] * 1e-6
        seconds = seconds + model.moe_layers * block
    return seconds


def head_s(deployment: Deployment, sequences: ArrayLike) -> NDArray[np.float64]:
    """Return seconds of LM head and sampler for ``sequences`` sampling sequences."""
    d = deployment
    rows = np.asarray(sequences, np.float64) / d.dp
    head = gemm_s(rows, d.model.vocab // d.tp, d.model.hidden, d.gpu, _plain(d))
    return head + sampler_s(d, rows)


def attention_s(deployment: Deployment) -> dict[str, float]:
    """Return the attention coefficients of a cost table, all layers of the slowest rank.

    Layers with a window look back that far at any context (too far while it is shorter), layers
    with linear attention read and write their state.

    With dp > 1 a rank decodes 1/dp of the sequences, while a chunk runs on one rank alone: it pays
    the linear work that :func:`linear_s` spread over all ranks once more.
    """
    d, model = deployment, deployment.model
    result = dict.fromkeys(COST.names or (), 0.0)
    for layers, kernels in (
        (model.full_layers, _full_layer(d)),
        (model.window_layers, attention.windowed(_window_layer(d), model.window)),
        (model.linear_layers, attention.linear(d.gpu, model.state_bytes / d.tp)),
    ):
        for name, value in kernels.items():
            result[name] += layers * value
    result["pre_pad"] = _full_layer(d)["pre_pad"]
    for name in result:
        if name.startswith(("dec", "mix")) and name not in ("dec_fixed_s", "dec_log_s"):
            result[name] /= d.dp
    result["pre_fixed_s"] += model.layers * launch_s(d)
    result["pre_query_s"] += (1 - 1 / d.dp) * _seconds_per_token(d)
    return {name: value for name, value in result.items() if name.startswith(_ATTENTION)}


_ATTENTION = ("dec_", "mix_", "pre_")


def _full_layer(d: Deployment) -> dict[str, float]:
    """Return the coefficients of a layer that sees the whole context."""
    if d.model.mla:
        decode = attention.decode_mla(d.gpu, d.rank_heads, d.kv_dtype)
        return decode | attention.prefill_mla(d.gpu, d.rank_heads)
    kv_heads = d.model.full_kv_heads or d.model.kv_heads
    return _gqa_layer(d, kv_heads, d.model.full_head_dim or d.model.head_dim)


def _window_layer(d: Deployment) -> dict[str, float]:
    """Return the coefficients of a layer with a window, as if it saw the whole context."""
    return _gqa_layer(d, d.model.kv_heads, d.model.head_dim)


def _gqa_layer(d: Deployment, kv_heads: int, dim: int) -> dict[str, float]:
    shape = (d.rank_heads, max(1, kv_heads // d.tp), dim, d.kv_dtype)
    decode = attention.decode_gqa(d.gpu, *shape)
    decode |= attention.mixed_gqa(d.gpu, d.rank_heads, dim)
    return decode | attention.prefill_gqa(d.gpu, *shape)


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


def decode_s(c: np.void, sequences: ArrayLike, context: ArrayLike) -> NDArray[np.float64]:
    """Return seconds of decode attention; formula in :mod:`.cost_table`."""
    b, tokens = np.asarray(sequences, np.float64), np.asarray(context, np.float64)
    mean = tokens / np.maximum(b, 1)
    memory = c["dec_token_s"] * tokens + c["dec_row_s"] * b
    moved = np.cbrt((c["dec_flop_s"] * tokens) ** 3 + memory**3)
    fixed = c["dec_fixed_s"] + c["dec_log_s"] * np.log2(1 + mean / 1024) + c["dec_seq_s"] * b
    return np.where(b > 0, fixed + moved, 0.0)


def prefill_s(c: np.void, chunks: Iterable[Chunk]) -> float:
    """Return seconds of prefill attention; formula in :mod:`.cost_table`."""
    seconds = 0.0
    for q, cached in chunks:
        flop = c["pre_flop_s"] * q * (cached + (q + c["pre_pad"]) / 2)
        tile = c["pre_tile_s"] * (q + c["pre_pad"])
        memory = c["pre_query_s"] * q + c["pre_cache_s"] * (cached + q)
        seconds += np.cbrt(flop**3 + tile**3 + memory**3)
    return float(seconds + c["pre_fixed_s"]) if seconds else 0.0


def coefficients(deployment: Deployment) -> np.void:
    """Return the :data:`~gpuyard.envs.perf.serving.cost_table.COST` record of a replica."""
    d, model = deployment, deployment.model
    record: np.void = np.zeros(1, COST)[0]
    for name, value in attention_s(d).items():
        record[name] = value
    record["host_s"], record["host_seq_s"] = host_line_s(d)
    record["flop_per_token"] = 2 * (model.active_params - model.embedding_params) / d.gpus
    record["peak_flops"] = d.gpu.peak_flops(d.dtype)
    # ring all-reduce: each of n GPUs sends 2 (n-1)/n of the payload, twice per layer
    ranks = max(d.tp, d.gpus if model.experts else 1)
    record["comm_bytes_per_token"] = 2 * model.layers * 2 * (ranks - 1) / ranks * 2 * model.hidden
    record["comm_bytes_per_s"] = link_bytes_per_s(ranks, d.gpu, d.links)
    return record


def _plain(d: Deployment) -> str:
    """Format of weights that are never quantised: LM head, expert router."""
    return "bf16" if d.gpu.bf16_flops else "fp16"


def _mixers_linear_s(d: Deployment, tokens: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return seconds of the projections around attention and linear attention, all layers."""
    model = d.model
    seconds = model.full_layers * _projections_s(
        d,
        tokens,
        model.full_kv_heads or model.kv_heads,
        model.full_head_dim or model.head_dim,
    )
    if model.window_layers:
        window = _projections_s(d, tokens, model.kv_heads, model.head_dim)
        seconds = seconds + model.window_layers * window
    if model.linear_layers:
        width = round(model.linear_params / model.hidden / d.tp)
        linear = gemm_s(tokens, width, model.hidden, d.gpu, d.dense_dtype)
        seconds = seconds + model.linear_layers * linear
    return seconds


def _projections_s(
    d: Deployment, tokens: NDArray[np.float64], kv_heads: int, dim: int
) -> NDArray[np.float64]:
    """Return seconds of the projections around one layer's attention."""
    model, dtype = d.model, d.dense_dtype
    shapes = [(model.hidden, d.rank_heads * dim)]
    if model.mla:
        shapes += [
            (model.q_lora_rank + model.kv_lora_rank + model.rope_dim, model.hidden),
            (d.rank_heads * (dim + model.rope_dim), model.q_lora_rank or model.hidden),
        ]
    else:
        queries = d.rank_heads * (2 if model.attention_gate else 1)
        shapes += [((queries + 2 * max(1, kv_heads // d.tp)) * dim, model.hidden)]
    seconds = np.zeros_like(tokens)
    for n, k in shapes:
        seconds = seconds + gemm_s(tokens, n, k, d.gpu, dtype)
    return seconds + (_absorbed_s(d, tokens) if model.mla else 0.0)


def _absorbed_s(d: Deployment, tokens: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return seconds of the two batched GEMMs that MLA folds into query and output.

    Each ``2 T h 128 512`` FLOPs at 0.4 of peak, or its 16-bit weights at 0.6 of the bandwidth.
    """
    size = d.rank_heads * d.model.head_dim * d.model.kv_lora_rank
    compute = 2 * tokens * size / (0.4 * d.gpu.fp16_flops)
    memory = 2 * size / (0.6 * d.gpu.bandwidth_bytes_per_s)
    return 2 * np.maximum(compute, memory)


def _ffn_s(d: Deployment, tokens: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """Return seconds of one feed-forward block."""
    model, part = d.model, width // d.tp
    up = gemm_s(tokens, part * (2 if model.gated else 1), model.hidden, d.gpu, d.dense_dtype)
    return up + gemm_s(tokens, model.hidden, part, d.gpu, d.dense_dtype)


def _reduce_s(d: Deployment, tokens: NDArray[np.float64], ranks: int) -> NDArray[np.float64]:
    """Return seconds of the all-reduce of 16-bit activations after a block."""
    return all_reduce_s(2 * tokens * d.model.hidden, ranks, d.gpu, links=d.links)


def _seconds_per_token(d: Deployment) -> float:
    """Return the marginal linear time per token of one dp rank, experts and host left out."""
    if d.dp == 1:
        return 0.0
    few, many = np.array([1024.0]), np.array([2048.0])
    times = [_mixers_linear_s(d, t) + d.model.layers * elementwise_s(d, t) for t in (few, many)]
    return float((times[1] - times[0])[0]) / 1024
