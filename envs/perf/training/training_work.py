"""FLOPs and bytes of a training step, and the floating-point conventions that tables quote."""

from __future__ import annotations

from dataclasses import dataclass

from ...hardware.catalogue import Model
from .training_job import TrainingJob


def sequence_flops(model: Model, seq_len: int) -> float:
    """Return model FLOPs of forward and backward of one sequence, as MFU figures count them.

    6 per parameter and token without the input embedding, and full (not causal) attention ``12 L
    heads d s``, also where it has a window; none in layers with linear attention. For GPT this is
    ``72 L h^2 s (1 + s/(6h) + V/(12 L h))``.
    """
    routed = model.moe_layers * model.active_experts * model.expert_params
    weights = model.dense_params - 2 * model.hidden * model.layers + routed
    weights += model.vocab * model.hidden
    attention = 2 * model.attention_layers * model.heads * model.head_dim * seq_len
    return 6.0 * seq_len * (weights + attention)


def hardware_flops(model: Model, seq_len: int) -> float:
    """Return FLOPs of one GPT sequence with full recomputation, as arXiv 2104.04473 counts them.

    ``96 s L h^2 (1 + s/(6h) + V/(16 L h))``.
    """
    h, layers = model.hidden, model.layers
    return 96 * seq_len * layers * h**2 * (1 + seq_len / (6 * h) + model.vocab / (16 * layers * h))


@dataclass(frozen=True)
class StageWork:
    """What one GPU of the slowest pipeline stage does per micro-batch, forward and backward.

    Attributes:
        gemm_flops: linear layers, in the job's format.
        head_flops: LM head, in 16 bits.
        attention_flops: causal attention, in 16 bits.
        elementwise: token-layers times hidden width on this GPU.
        scores: attention scores (query-key pairs of all heads) that pass through memory, forward,
            backward (counted twice) and recomputation; 0 if attention is fused.
        layers: layers of the stage.
    """

    gemm_flops: float
    head_flops: float
    attention_flops: float
    elementwise: float
    scores: float
    layers: float


def slowest_stage(layers: int, pp: int) -> tuple[float, bool]:
    """Return layers of the slowest stage, and whether it holds the LM head too.

    Layers that divide evenly leave the head on top of the last stage. Otherwise embedding and head
    each take the place of a layer (126 layers of Llama-3-405B on 8 stages: 16 slots each).
    """
    if layers % pp == 0:
        return layers / pp, True
    return -(-(layers + 2) // pp), False


def stage_work(job: TrainingJob) -> StageWork:
    """Return the work of a micro-batch.

    The backward pass does twice the matrix multiplications of the forward pass (2.5 times in fused
    attention, which computes its scores again); full recomputation adds one more forward pass.
    """
    model, layout, tokens = job.model, job.layout, job.rank_tokens
    layers, has_head = slowest_stage(model.layers, layout.pp)
    again = 1 if job.recompute == "full" else 0
    routed = model.moe_layers * model.active_experts * model.expert_params
    weights = (model.dense_params - 2 * model.hidden * model.layers + routed) / model.layers
    scores = layers * model.heads * job.seq_len * tokens / layout.tp
    scores *= model.attention_layers / model.layers
    head = 6 * model.vocab * model.hidden * tokens / layout.tp if has_head else 0.0
    return StageWork(
        gemm_flops=(3 + again) * 2 * layers * weights * tokens / layout.tp,
        head_flops=head,
        attention_flops=(3.5 + again) * 2 * model.head_dim * scores,
        elementwise=layers * tokens * model.hidden / layout.tp,
        scores=0.0 if job.fused_attention else (3 + again) * scores,
        layers=layers,
    )
