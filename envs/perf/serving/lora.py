"""The memory of LoRA adapters: each adds A (in x rank) and B (rank x out) to a weight matrix.

Of every layer's projections of attention (query, key, value, output) and, in models without
experts, of its feed-forward network, in 16 bits. Source: Hu et al., "LoRA", ICLR 2022; vLLM keeps
``max_loras`` places of the highest rank that is allowed, split over tp ranks (here: evenly).
"""

from __future__ import annotations

from ...hardware.catalogue import Model
from .deployment import Deployment

PARAM_BYTES = 2


def adapter_bytes(model: Model, rank: int) -> float:
    """Return the bytes of one adapter of a model with grouped-query attention.

    Raises:
        ValueError: a model with a latent cache or with linear layers, whose projections differ.
    """
    if model.mla or model.linear_layers:
        raise ValueError(f"adapters of {model.name}: its attention is not that of Llama and Qwen")
    queries, keys = model.heads * model.head_dim, model.kv_heads * model.head_dim
    sides = 2 * (model.hidden + queries) + 2 * (model.hidden + keys)
    if not model.experts:
        sides += (3 if model.gated else 2) * (model.hidden + model.ffn)
    return float(model.layers * sides * rank * PARAM_BYTES)


def places_bytes(deployment: Deployment, rank: int, max_loras: int) -> float:
    """Return the bytes on one GPU of all places for adapters."""
    ranks = deployment.tp * deployment.pp
    return max_loras * adapter_bytes(deployment.model, rank) / ranks
