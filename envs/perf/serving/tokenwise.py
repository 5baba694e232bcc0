"""The token-wise part of a step: linear layers, experts, what ranks send, LM head and host.

By tokens and by sampling sequences they are the two arrays of a cost table.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import expert_parallel as wide
from .across_nodes import reduce_s, stages_s
from .constants import constants
from .deployment import Deployment
from .gemm import gemm_s
from .host import elementwise_s, host_s, sampler_s
from .moe import experts_s


def linear_s(deployment: Deployment, tokens: ArrayLike) -> NDArray[np.float64]:
    """Return seconds of all token-wise work and the host for a step of ``tokens`` tokens.

    With dp > 1 the tokens are spread evenly over the dp ranks and meet in the experts.
    """
    d, total = deployment, np.asarray(tokens, np.float64)
    seconds = _tokenwise_s(d, total)
    if d.pp > 1:
        seconds = seconds + stages_s(d, total / d.shards)
    if d.all_to_all:
        seconds = _with_exchange_s(d, total, seconds)
    return seconds * d.round


def _with_exchange_s(
    d: Deployment, total: NDArray[np.float64], work_s: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return token-wise work and the exchange of tokens between ranks, overlapped if that helps."""
    rank, layers = total / d.pp / d.stage_gpus, d.model.moe_layers
    quick = rank <= wide.LOW_LATENCY_TOKENS
    apart = work_s + layers * wide.exchange_s(d, rank, quick)
    if not d.two_batch_overlap:
        return apart
    half = _tokenwise_s(d, total / 2) - host_s(d)
    half = np.where(quick, half + layers * wide.packing_s(d, rank / 2), half * wide.slowdown(d))
    hidden = np.maximum(half, layers * wide.exchange_s(d, rank / 2, quick))
    return np.minimum(apart, 2 * hidden + host_s(d))


def _tokenwise_s(d: Deployment, total: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return seconds of token-wise work, all-reduces and the host."""
    model = d.model
    rank = total / d.shards
    layer = elementwise_s(d, rank) + _reduce_s(d, rank, d.tp)
    seconds = _mixers_linear_s(d, rank) + model.layers * layer + host_s(d)
    if model.dense_layers:
        ffn = _ffn_s(d, rank, model.ffn) + _reduce_s(d, rank, d.tp)
        seconds = seconds + model.dense_layers * ffn
    if model.moe_layers:
        stage = total / d.pp
        block = gemm_s(rank, model.experts, model.hidden, d.gpu, _plain(d))
        block = block + _experts_s(d, stage)
        if model.shared_ffn:
            block = block + _ffn_s(d, rank, model.shared_ffn)
        if not d.all_to_all:
            # dp > 1: dispatch and combine move what one all-reduce over all ranks moves
            block = block + _reduce_s(d, stage if d.dp > 1 else rank, d.stage_gpus)
            if d.dp > 1:
                block = block + constants("dispatch", d.gpu)["layer_us"] * 1e-6
        seconds = seconds + model.moe_layers * block
    return seconds


def _experts_s(d: Deployment, tokens: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return seconds of the routed experts of the busiest rank."""
    row = constants("moe", d.gpu, d.dtype, d.stack)
    model = d.model
    if d.redundant_experts:
        model = replace(model, experts=model.experts + d.redundant_experts)
    shape = (model, d.gpu, d.dtype, d.moe_tp, d.ep)
    return experts_s(tokens, *shape, row, d.expert_imbalance, sent=d.all_to_all != "")


def head_s(deployment: Deployment, sequences: ArrayLike) -> NDArray[np.float64]:
    """Return seconds of LM head and sampler for ``sequences`` sampling sequences."""
    d = deployment
    rows = np.asarray(sequences, np.float64) / d.shards
    head = gemm_s(rows, d.model.vocab // d.tp, d.model.hidden, d.gpu, _plain(d))
    return (head + sampler_s(d, rows)) * d.round


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
        linear = gemm_s(tokens, width, model.hidden, d.gpu, d.dense_dtype, d.stack)
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
        seconds = seconds + gemm_s(tokens, n, k, d.gpu, dtype, d.stack)
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
    model, part, kernel = d.model, width // d.tp, (d.gpu, d.dense_dtype, d.stack)
    up = gemm_s(tokens, part * (2 if model.gated else 1), model.hidden, *kernel)
    return up + gemm_s(tokens, model.hidden, part, *kernel)


def _reduce_s(d: Deployment, tokens: NDArray[np.float64], ranks: int) -> NDArray[np.float64]:
    """Return seconds of the all-reduce of 16-bit activations after a block."""
    return reduce_s(d, 2 * tokens * d.model.hidden, ranks)


def seconds_per_token(d: Deployment) -> float:
    """Return the marginal linear time per token of one dp rank, experts and host left out."""
    if d.shards == 1:
        return 0.0
    few, many = np.array([1024.0]), np.array([2048.0])
    times = [_mixers_linear_s(d, t) + d.model.layers * elementwise_s(d, t) for t in (few, many)]
    return float((times[1] - times[0])[0]) / 1024
