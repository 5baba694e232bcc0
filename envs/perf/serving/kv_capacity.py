"""KV-cache capacity of a replica, as vLLM's profiling run finds it."""

from __future__ import annotations

from ...hardware.dtypes import DTYPES
from .deployment import Deployment

CONTEXT_BYTES = 0.66 * 2**30
"""CUDA context, library workspaces and graphs of one process: what a vLLM 0.19 server on an
RTX 4090 had left unexplained (2,588 blocks of Llama-3.1-8B, benchmarked in docs/accuracy.md)."""
NCCL_BYTES = {1: 0.0, 2: 342 * 2.0**20}
NCCL_BYTES_MORE = 392 * 2.0**20
"""NCCL buffers by number of ranks. Source: aiconfigurator-core 0.12.0, system files."""


def kv_blocks(deployment: Deployment) -> int:
    """Return the KV blocks of the whole replica (all dp ranks).

    ``gpu_memory_utilization * memory - weights - activations - context - NCCL`` per GPU, divided
    by the bytes of a block on that GPU.

    Raises:
        ValueError: if not even one block is left, with the numbers and the remedy.
    """
    d = deployment
    budget = d.gpu_memory_utilization * d.gpu.memory_bytes
    weights = rank_weight_bytes(d)
    other = activation_bytes(d) + CONTEXT_BYTES + NCCL_BYTES.get(d.gpus, NCCL_BYTES_MORE)
    blocks = int((budget - weights - other) // (rank_kv_bytes_per_token(d) * d.block_size))
    if blocks < 1:
        raise ValueError(
            f"{d.model.name} in {d.dtype} does not fit on {d.gpus} x {d.gpu.name}: per GPU "
            f"{weights / 2**30:.1f} GiB of weights and {other / 2**30:.1f} GiB of activations and "
            f"buffers leave no KV block in {d.gpu_memory_utilization:g} x "
            f"{d.gpu.memory_bytes / 2**30:.1f} GiB; raise tp (or ep), use fewer bits per weight "
            f"or a GPU with more memory"
        )
    return blocks * d.dp


def rank_weight_bytes(deployment: Deployment) -> float:
    """Return weight bytes on one GPU: experts over all GPUs, the rest over the tp ranks."""
    d, model = deployment, deployment.model
    routed = model.moe_layers * model.experts * model.expert_params
    routed_bytes = routed * DTYPES[d.dtype].weight_bytes
    return (model.weight_bytes(d.dtype) - routed_bytes) / d.tp + routed_bytes / d.gpus


def rank_kv_bytes_per_token(deployment: Deployment) -> float:
    """Return KV bytes of one token on one GPU: split over KV heads, an MLA cache is copied."""
    d = deployment
    whole = d.model.kv_bytes_per_token(d.kv_dtype)
    return whole if d.model.mla else whole * d.rank_kv_heads / d.model.kv_heads


def activation_bytes(deployment: Deployment) -> float:
    """Return peak activation bytes of vLLM's profiling run on one GPU.

    The larger of a full token budget in the feed-forward block (two residual streams, gate, up and
    their product, 16 bits) and of sampling max_num_seqs sequences (logits, sorted logits in 32
    and their indices in 64 bits).
    """
    d, model = deployment, deployment.model
    width = model.ffn or model.shared_ffn or model.active_experts * model.expert_ffn
    forward = d.max_num_batched_tokens * 2 * (2 * model.hidden + 3 * width / d.tp) / d.dp
    return max(forward, d.max_num_seqs / d.dp * model.vocab * 16)
