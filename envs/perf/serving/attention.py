"""Attention kernels: the coefficients they contribute to a cost table, per layer.

``decode`` and ``prefill`` of :mod:`.cost_table` are evaluated in
:mod:`.iteration`; here stand the physics behind each coefficient. Constants are
fitted to kernel tables (``constants.toml``). B sequences, C cached tokens in all, chunks of q new
tokens on top of c cached ones, h query and kv KV heads of one rank with d elements each.
"""

from __future__ import annotations

import numpy as np

from ...hardware.catalogue import GPU
from ...hardware.dtypes import KV_BYTES
from .constants import calibration, constants

Coefficients = dict[str, float]

LATENT = 576  # elements that MLA caches per token: kv_lora_rank 512 + rope 64


def decode_gqa(gpu: GPU, heads: int, kv_heads: int, dim: int, kv_dtype: str) -> Coefficients:
    """Paged decode attention.

    ``t0 + c1 log2(1 + C/B/1024) + cr B h + (2 C kv d kv_bytes + 4 B h d) / (em bandwidth)``
    """
    row = constants("decode", gpu, kv_dtype)
    rate = row["em"] * gpu.bandwidth_bytes_per_s
    return {
        "dec_fixed_s": row["t0_us"] * 1e-6,
        "dec_log_s": row["c1_us"] * 1e-6,
        "dec_seq_s": row["cr_ns"] * 1e-9 * heads,
        "dec_token_s": 2 * kv_heads * dim * KV_BYTES[kv_dtype] / rate,
        "dec_row_s": 4 * heads * dim / rate,
        "dec_flop_s": 0.0,
    }


def in_engine(decode: Coefficients, gpu: GPU, dim: int, kv_dtype: str) -> Coefficients:
    """Return the coefficients of decode attention as calibrated inside an engine.

    FP8 caches need the queries quantised, a kernel more in each layer, and small heads read them
    slowly.
    """
    key = f"decode_{kv_dtype}" + ("_64" if dim <= 64 else "")
    fixed, rest = calibration(constants("decode", gpu, kv_dtype), key)
    result = dict(decode)
    result["dec_fixed_s"] *= fixed
    for name in ("dec_token_s", "dec_row_s"):
        result[name] *= rest
    return result


def mixed_gqa(gpu: GPU, heads: int, dim: int, stack: str) -> Coefficients:
    """Decodes in the same kernel call as prompt chunks of Q tokens, where that is dear.

    FlashAttention 2 then runs every (sequence, query head) as a query tile of its own: padded to
    ``rows`` rows, no sharing of KV heads, and as many empty tiles as the longest chunk has::

        B h (row + cell Q) + 4 h d rows C / (ec peak)        ec of the prefill kernel

    GPUs without a row pay :func:`decode_gqa`, and so do stacks with kernels of their own. Source:
    mixed batches of LLMServingSim's tables, of vLLM.
    """
    row = constants("mixed", gpu)
    if not row["rows"] or stack != "vllm":
        return {"mix_seq_s": 0.0, "mix_cell_s": 0.0, "mix_token_s": 0.0}
    flops = constants("prefill", gpu)["ec"] * gpu.fp16_flops
    return {
        "mix_seq_s": row["row_ns"] * 1e-9 * heads,
        "mix_cell_s": row["cell_ps"] * 1e-12 * heads,
        "mix_token_s": 4 * heads * dim * row["rows"] / flops,
    }


def windowed(layer: Coefficients, window: int) -> Coefficients:
    """Return the coefficients of a layer that looks back ``window`` tokens only.

    A sequence reads the window's tokens whatever its context, a prompt token as many keys.
    """
    result = dict(layer)
    result["dec_fixed_s"] += result["dec_log_s"] * float(np.log2(1 + window / 1024))
    for part in ("dec", "mix"):
        result[f"{part}_seq_s"] += window * result[f"{part}_token_s"]
    result["pre_query_s"] += window * result["pre_flop_s"]
    for name in ("dec_log_s", "dec_token_s", "mix_token_s", "pre_flop_s", "pre_cache_s"):
        result[name] = 0.0
    return result


def linear(gpu: GPU, state_bytes: float) -> Coefficients:
    """Return the coefficients of a layer with linear attention or Mamba.

    Decoding reads and writes the state of every sequence, at the share of the bandwidth that the
    elementwise kernels reach; a prompt token costs four FLOPs per element of the state (32 bits),
    at half of the attention's efficiency. Unvalidated: no kernel of this kind was measured.
    """
    row = constants("elementwise", gpu)
    rate = row["em"] * gpu.bandwidth_bytes_per_s
    flops = 0.5 * constants("prefill", gpu)["ec"] * gpu.fp16_flops
    launch_s = row["launches"] * row["launch_us"] * 1e-6
    return {
        "dec_fixed_s": launch_s,
        "dec_row_s": 2 * state_bytes / rate,
        "pre_fixed_s": launch_s,
        "pre_query_s": 4 * (state_bytes / 4) / flops,
    }


def decode_mla(gpu: GPU, heads: int, kv_dtype: str) -> Coefficients:
    """Decode over the latent cache; kernels pad to 64 heads.

    ``t0 + c1 log2(1 + C/B/1024) + ((2 C max(h, 64) 1088 / (ec peak))^3
    + ((576 C kv_bytes + 2176 B h) / (em bandwidth))^3)^(1/3)``

    Where n tokens of each sequence are verified, FLOPs and 2176 B h are n-fold. Kernels that hold
    all n in one tile read the cache once. Those of Blackwell (TensorRT-LLM's, which vLLM and SGLang
    take there, too) give each token a thread block of its own, and the L2 cache does not save all:
    each further token costs ``again`` of a read. Source: ``computeNumCtas`` of TensorRT-LLM's
    ``fmhaKernels.h``; FlashInfer issue 4390.
    """
    row = constants("mla_decode", gpu, kv_dtype)
    rate = row["em"] * gpu.bandwidth_bytes_per_s
    return {
        "dec_fixed_s": row["t0_us"] * 1e-6,
        "dec_log_s": row["c1_us"] * 1e-6,
        "dec_seq_s": 0.0,
        "dec_token_s": LATENT * KV_BYTES[kv_dtype] / rate,
        "dec_row_s": 2176 * heads / rate,
        "dec_again_s": row.get("again", 0.0) * LATENT * KV_BYTES[kv_dtype] / rate,
        "dec_flop_s": 2 * max(heads, 64) * 1088 / (row["ec"] * gpu.fp16_flops),
    }


def prefill_gqa(gpu: GPU, heads: int, kv_heads: int, dim: int, kv_dtype: str) -> Coefficients:
    """Causal attention of a chunk; s0 is the tile padding on the diagonal.

    ``t0 + ((4 h d q (c + (q + s0)/2) / (ec peak))^3 + (4 d 128 (q + s0) / (ec peak/SMs))^3
    + ((4 q h d + 2 (c + q) kv d kv_bytes) / (em bandwidth))^3)^(1/3)``

    The second term is one tile of 128 query rows on one SM, which bounds short chunks. A row with
    ``walk`` was fitted with ``4 d walk (c + q) / (ec peak/SMs)`` in its place, which leaves the
    cached tokens no third term: a tile of that many rows walks over the whole context.
    """
    row = constants("prefill", gpu)
    rate = row["em"] * gpu.bandwidth_bytes_per_s
    flops = row["ec"] * gpu.fp16_flops * (row["e64"] if dim <= 64 else 1.0)
    walk = 4 * dim * row.get("walk", 0) * gpu.sms / flops
    return {
        "pre_fixed_s": row["t0_us"] * 1e-6,
        "pre_flop_s": 4 * heads * dim / flops,
        "pre_pad": row["s0"],
        "pre_tile_s": 0.0 if walk else 4 * dim * 128 * gpu.sms / flops,
        "pre_query_s": 4 * heads * dim / rate,
        "pre_cache_s": walk or 2 * kv_heads * dim * KV_BYTES[kv_dtype] / rate,
    }


def naive(layer: Coefficients, gpu: GPU, heads: int, dim: int) -> Coefficients:
    """Return the coefficients of a layer whose attention writes its scores to memory.

    Three kernels instead of one: matrix multiplications over all ``q (c + q)`` pairs, the masked
    ones too, and several passes over their scores of 16 bits, which do not overlap::

        h q (c + q) (4 d / (ec peak) + 2 passes / (em bandwidth))

    :mod:`.iteration` knows ``q (c + q/2)``, which it stands in for twice: exact for a whole prompt,
    too long by up to a factor of 2 for chunks behind many cached tokens. A window saves nothing. A
    decoding sequence passes over ``h`` scores per cached token. Source: FlashAttention, arXiv
    2205.14135, section 3.2 and figure 2.
    """
    row = constants("naive", gpu)
    score_s = 2 * row["passes"] / (row["em"] * gpu.bandwidth_bytes_per_s)
    pair_s = heads * (4 * dim / (row["ec"] * gpu.fp16_flops) + score_s)
    result = dict(layer)
    result["pre_flop_s"] = 2 * pair_s
    result["pre_pad"] = result["pre_tile_s"] = 0.0
    result["dec_token_s"] += heads * score_s
    for name in ("pre_fixed_s", "dec_fixed_s"):
        result[name] += 2 * constants("elementwise", gpu)["launch_us"] * 1e-6
    return result


def prefill_mla(gpu: GPU, heads: int) -> Coefficients:
    """Causal attention of a chunk with uncompressed keys and values.

    ``t0 + ((320 h q (2c + q + s0) / (ec peak))^3 + (1280 q h / (em bandwidth))^3)^(1/3)``
    """
    row = constants("mla_prefill", gpu)
    return {
        "pre_fixed_s": row["t0_us"] * 1e-6,
        "pre_flop_s": 640 * heads / (row["ec"] * gpu.fp16_flops),
        "pre_pad": row["s0"],
        "pre_tile_s": 0.0,
        "pre_query_s": 1280 * heads / (row["em"] * gpu.bandwidth_bytes_per_s),
        "pre_cache_s": 0.0,
    }
