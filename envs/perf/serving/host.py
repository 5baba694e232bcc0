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

    An engine that schedules ahead leaves only a gap between two steps (``gap_us``). Without CUDA
    graphs there is one between kernels, too, which a graph would close.
    """
    d, row = deployment, constants("host", deployment.gpu)
    between_us = 0.0
    if d.cuda_graphs == 0:
        between_us = constants("eager", d.gpu)["gap_us"] * d.model.layers
    waits_us: float = row["gap_us"] if d.rules.asynchronous else row["step_us"][d.stack]
    return (waits_us + between_us) * 1e-6


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

    Of an engine that schedules ahead its host work, which hides behind the GPU: as measured of
    vLLM, of other stacks what they add to a step when they do not schedule ahead. Of one that
    launches a decode step layer by layer these launches as well. Both 0 for one that does neither:
    its host time is in the step itself.
    """
    d, row = deployment, constants("host", deployment.gpu)
    layers, graphs = d.model.layers, d.rules.full_graphs
    if not d.rules.asynchronous and graphs:
        return 0.0, 0.0
    if d.rules.asynchronous and d.stack == "vllm":
        fixed, each = row["ahead_us"], row["ahead_sequence_us"]
        fixed += row["ahead_layer_us"] * layers if graphs else 0.0
    else:
        fixed, each = row["step_us"][d.stack], row["sequence_us"][d.stack]
    return (fixed + (0.0 if graphs else launches_us(d))) * 1e-6, each * 1e-6


def launches_us(deployment: Deployment) -> float:
    """Return microseconds in which the host launches all layers of a step one by one.

    Engines of before full CUDA graphs had those of the parts between attentions (``launch``);
    without any (``cuda_graphs = 0``) each kernel is called from Python (``eager``), or as the
    replica says.
    """
    d, model = deployment, deployment.model
    if d.layer_launch_us >= 0:
        return d.layer_launch_us * model.layers
    row = constants("eager" if d.cuda_graphs == 0 else "launch", d.gpu)
    attention_us: float = row["mla_us" if model.mla else "gqa_us"]
    moe_us: float = row["moe_us"]
    return moe_us * model.moe_layers + attention_us * model.layers
