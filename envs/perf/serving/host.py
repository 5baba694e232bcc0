"""What a step costs besides matrix multiplications, attention and communication."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .constants import constants
from .deployment import Deployment


def elementwise_s(deployment: Deployment, tokens: ArrayLike) -> NDArray[np.float64]:
    """Return seconds of one layer's norms, rotary embedding, activation and residuals.

    ``launches launch_us + traffic tokens (16 H + 4 (h + 2 kv) d / tp + 6 I/tp) / (em bandwidth)``
    with I the dense FFN width (the experts' part is in their own formula). Constants calibrated on
    whole serving runs, on some GPUs fitted to the kernels alone.
    """
    row = constants("elementwise", deployment.gpu)
    model, tp = deployment.model, deployment.tp
    heads = deployment.rank_heads + 2 * deployment.rank_kv_heads
    width = 6 * (model.ffn or model.shared_ffn) / tp
    moved = 16 * model.hidden + 4 * heads * model.head_dim + width
    rate = row["em"] * deployment.gpu.bandwidth_bytes_per_s
    fixed = row["launches"] * row["launch_us"] * 1e-6
    return fixed + row["traffic"] * np.asarray(tokens, np.float64) * moved / rate


def host_s(deployment: Deployment) -> float:
    """Return seconds of a step in which the GPU waits for the host: scheduler, inputs, launch.

    An engine that schedules ahead leaves only a gap between two steps (``gap_us``).
    """
    row = constants("host", deployment.gpu)
    if deployment.rules.asynchronous:
        return row["gap_us"] * 1e-6
    return row["step_us"][deployment.stack] * 1e-6


def launch_s(deployment: Deployment) -> float:
    """Return seconds that one layer adds to a step with a prompt chunk.

    Such steps are launched kernel by kernel (their attention at least), not as one CUDA graph.
    """
    return constants("host", deployment.gpu).get("prompt_layer_us", 0.0) * 1e-6


def sampler_s(deployment: Deployment, sequences: ArrayLike) -> NDArray[np.float64]:
    """Return seconds that each sampling sequence adds: sampler, detokenisation, book-keeping.

    An engine that schedules ahead keeps only the sampler's kernels (``gap_sequence_us``).
    """
    row = constants("host", deployment.gpu)
    if deployment.rules.asynchronous:
        each_us = row["gap_sequence_us"]
    else:
        each_us = row["sequence_us"][deployment.stack]
    return each_us * 1e-6 * np.asarray(sequences, np.float64)


def host_line_s(deployment: Deployment) -> tuple[float, float]:
    """Return host seconds below which no step falls: of a step, and of each sampling sequence.

    Of an engine that schedules ahead its host work, which hides behind the GPU. Of one that
    launches a decode step layer by layer these launches and what it adds to the GPU's time anyway.
    Both 0 for one that does neither: its host time is in the step itself.
    """
    row, layers = constants("host", deployment.gpu), deployment.model.layers
    if deployment.rules.asynchronous:
        fixed = row["ahead_us"] + row["ahead_layer_us"] * layers
        return fixed * 1e-6, row["ahead_sequence_us"] * 1e-6
    if deployment.rules.full_graphs:
        return 0.0, 0.0
    launch, model = constants("launch", deployment.gpu), deployment.model
    fixed = row["step_us"][deployment.stack] + launch["moe_us"] * model.moe_layers
    fixed += launch["mla_us" if model.mla else "gqa_us"] * layers
    return fixed * 1e-6, row["sequence_us"][deployment.stack] * 1e-6
