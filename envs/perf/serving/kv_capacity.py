"""KV-cache capacity of a replica, as vLLM's profiling run finds it."""

from __future__ import annotations

from ...hardware.dtypes import DTYPES
from .deployment import Deployment
from .kv_groups import block_bytes, kv_groups
from .speculation import drafter

CONTEXT_BYTES = 0.66 * 2**30
"""CUDA context and library workspaces of one process: what a vLLM 0.19 server on an RTX 4090 had
left unexplained (2,588 blocks of Llama-3.1-8B, benchmarked in docs/accuracy.md)."""
NCCL_BYTES = {1: 0.0, 2: 342 * 2.0**20}
NCCL_BYTES_MORE = 392 * 2.0**20
"""NCCL buffers by number of ranks. Source: aiconfigurator-core 0.12.0, system files."""
GRAPHS = 51
"""Batch sizes that vLLM captures."""
GRAPH_BYTES = {"vllm": 24 * 2.0**20 / GRAPHS, "trtllm": 10e6 / 61}
"""CUDA graph of one layer at one batch size, by stack, where graphs count: 0.8 GiB and more of 48
layers in a log of vLLM 0.21, 0.36 GiB of 16 sizes in another; 10 MB a graph of DeepSeek-R1's 61
layers (TensorRT-LLM, tech blog 20). Others: as vLLM."""
NAIVE_SCORES = 2
"""Copies of a chunk's scores that live at once where attention is naive: before and after the
softmax."""
EXPERT_TILE = {"mxfp4": (256, 128)}
"""Hidden and expert width that a kernel's tile rounds up to: 2,880 becomes 3,072 and 2,944 in
gpt-oss, 65.97 instead of 60.7 GiB (vLLM issue 23278: Marlin)."""
ALIGNED_ROWS = 128
"""Rows to which a grouped fp8 GEMM rounds the tokens of each expert (DeepGEMM)."""


def kv_blocks(deployment: Deployment) -> int:
    """Return the KV blocks of the whole replica (all dp ranks).

    ``gpu_memory_utilization * memory - weights - activations - buffers`` per GPU, divided by the
    bytes of a block on that GPU, which has its stage's layers.

    Raises:
        ValueError: if not even one block is left, with the numbers and the remedy.
    """
    d = deployment
    budget = d.gpu_memory_utilization * d.gpu.memory_bytes
    weights = rank_weight_bytes(d) + draft_weight_bytes(d)
    other = activation_bytes(d) + buffer_bytes(d) + encoder_cache_bytes(d)
    blocks = int((budget - weights - other) // block_bytes(d))
    if blocks < 1:
        raise ValueError(
            f"{d.model.name} in {d.dtype} does not fit on {d.gpus} x {d.gpu.name}: per GPU "
            f"{weights / 2**30:.1f} GiB of weights and {other / 2**30:.1f} GiB of activations and "
            f"buffers leave no KV block in {d.gpu_memory_utilization:g} x "
            f"{d.gpu.memory_bytes / 2**30:.1f} GiB; raise tp (or ep, pp), use fewer bits "
            f"per weight or a GPU with more memory{_or_no_draft(d)}"
        )
    return blocks * d.dp


def encoder_cache_bytes(deployment: Deployment) -> float:
    """Return bytes on one GPU of an encoder cache of a stated size: 16-bit embeddings, on each."""
    return 2.0 * deployment.encoder_cache_tokens * deployment.model.hidden


def kv_tokens(deployment: Deployment) -> int:
    """Return the KV-cache size in tokens as vLLM logs it: blocks shared out among the groups."""
    groups = kv_groups(deployment)
    return kv_blocks(deployment) // (1 + groups.window_groups) * deployment.block_size


def rank_weight_bytes(deployment: Deployment) -> float:
    """Return weight bytes on one GPU.

    Experts over all GPUs, the rest over the tp ranks and stages, but for what every rank has: the
    routers and, with a latent cache, the projections down to it, and in 16 bits the two that are
    folded into query and output.
    """
    d, model = deployment, deployment.model
    dense_bytes = DTYPES[d.dense_dtype].weight_bytes
    routed = model.moe_layers * model.experts * model.expert_params * DTYPES[d.dtype].weight_bytes
    copied = model.moe_layers * model.experts * model.hidden
    folded = 0.0
    if model.mla:
        latent = model.q_lora_rank + model.kv_lora_rank + model.rope_dim
        copied += model.layers * model.hidden * latent
        folded = 2.0 * model.layers * d.rank_heads * 2 * model.head_dim * model.kv_lora_rank
    shared = model.weight_bytes(d.dtype) - routed - copied * dense_bytes
    routed *= _padding(d)
    if model.experts:
        routed *= 1 + d.redundant_experts / model.experts
    return (shared / d.tp + copied * dense_bytes + folded) / d.pp + routed / d.gpus


def draft_weight_bytes(deployment: Deployment) -> float:
    """Return weight bytes on one GPU of what drafts there.

    Layers of the model's own use its embedding and head.
    """
    draft = drafter(deployment)
    if draft is None:
        return 0.0
    shared = 0.0
    if deployment.speculation and deployment.speculation.kind == "mtp":
        shared = 2.0 * draft.model.embedding_params / draft.tp
    return rank_weight_bytes(draft) - shared


def _or_no_draft(d: Deployment) -> str:
    """Return a further remedy where a draft takes memory, too."""
    draft = drafter(d)
    if draft is None:
        return ""
    size = draft_weight_bytes(d) / 2**30
    return f", or leave out speculation: {draft.model.name} takes {size:.1f} GiB of these weights"


def activation_bytes(deployment: Deployment) -> float:
    """Return peak activation bytes of vLLM's profiling run on one GPU.

    The larger of a full token budget in the feed-forward block (two residual streams, gate, up and
    their product, 16 bits) and of sampling max_num_seqs sequences (logits, sorted logits in 32
    and their indices in 64 bits; twice that in early versions, whose logs of gpt-oss-120b leave
    7.4 GiB beside the weights); and the experts' workspace, which stays. Naive attention holds the
    scores of a full token budget, 16 bits, as well.
    """
    d, model = deployment, deployment.model
    width = model.ffn or model.shared_ffn or model.active_experts * model.expert_ffn
    tokens = d.max_num_batched_tokens / d.shards
    forward = tokens * 2 * (2 * model.hidden + 3 * width / d.tp)
    if d.attention == "naive":
        forward += NAIVE_SCORES * 2 * d.rank_heads * tokens**2
    return max(
        forward, d.max_num_seqs / d.dp * model.vocab * d.rules.logit_bytes
    ) + expert_workspace_bytes(d)


def expert_workspace_bytes(deployment: Deployment) -> float:
    """Return bytes of the fused experts' intermediate results on one GPU.

    ``2 rows (max(I, H) + max(2 I, H))`` for each pair of token and expert, widths as padded, in fp8
    with every expert's rows rounded up to 128. With dp > 1 a rank has its experts' share of the
    pairs, otherwise all. Source: vLLM pull request 57270.
    """
    d, model = deployment, deployment.model
    if not model.experts:
        return 0.0
    rows = d.max_num_batched_tokens / d.pp * model.active_experts / (d.ep if d.dp > 1 else 1)
    if d.dtype == "fp8":
        rows += model.experts / d.ep * ALIGNED_ROWS
    hidden, width = _padded(d)
    return 2.0 * rows * (max(width, hidden) + max(2 * width, hidden))


def buffer_bytes(deployment: Deployment) -> float:
    """Return bytes of one GPU that neither weights nor activations take.

    CUDA context, NCCL, CUDA graphs where the engine counts them, and one layer of experts a second
    time where a kernel repacks them on loading (4 bits without 4-bit arithmetic).
    """
    d, model = deployment, deployment.model
    total = CONTEXT_BYTES + NCCL_BYTES.get(d.gpus, NCCL_BYTES_MORE)
    if d.rules.graphs_in_budget:
        graphs = GRAPHS if d.cuda_graphs < 0 else d.cuda_graphs
        total += graphs * GRAPH_BYTES.get(d.stack, GRAPH_BYTES["vllm"]) * model.layers / d.pp
    kind = DTYPES[d.dtype]
    if model.experts and kind.experts_only:
        layer = model.experts * model.expert_params * kind.weight_bytes
        total += layer * _padding(d) / d.gpus
    return total


def _padded(d: Deployment) -> tuple[int, int]:
    """Return hidden and expert width of one rank, rounded up to the kernel's tile."""
    hidden, width = d.model.hidden, d.model.expert_ffn // d.moe_tp
    tile = EXPERT_TILE.get(d.dtype, (1, 1))
    return -(-hidden // tile[0]) * tile[0], -(-width // tile[1]) * tile[1]


def _padding(d: Deployment) -> float:
    """Return how much larger the experts are than their weights."""
    if not d.model.experts:
        return 1.0
    hidden, width = _padded(d)
    return hidden * width / (d.model.hidden * (d.model.expert_ffn // d.moe_tp))
