"""A sensible default layout for a language model on so many GPUs, and the memory that it takes.

Sources: arXiv 2104.04473 (tensor parallelism inside the node, then pipeline stages, then data
parallelism), arXiv 2205.05198 (activations), Megatron-LM's documentation (bytes per parameter).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache

from ...hardware.catalogue import GPU, Model
from .training_job import Layout, TrainingJob

SEQ_LEN = 4096
USABLE = 0.92
"""Share of the memory that a job may fill: context, communication buffers, fragmentation
(assumption)."""
PARAM_BYTES, STATE_BYTES = 6.0, 12.0
"""Weights in 16 and gradients in 32 bits; weights in 32 bits and Adam's moments, which the ranks of
data parallelism share."""
STAGE_BATCHES, LEAST_BATCHES = 8, 16
"""Micro-batches per pipeline stage, and at least (DGX Cloud recipes of NVIDIA: 7 to 16)."""


@cache
def default_job(shape: Model, gpus: int, node_gpus: int, kind: GPU) -> TrainingJob:
    """Return how ``gpus`` GPUs would train a model: the first layout that fits in memory.

    Tensor parallelism grows first (1, 2, 4 ... as heads, node and GPUs divide), up to a node, then
    the number of stages; the rest is data parallelism. Models with experts spread these over the
    ranks of data parallelism in a node instead of using tensor parallelism. If nothing fits,
    activations are recomputed. Sequences have 4,096 tokens, micro-batches one sequence; a stage is
    cut into up to 4 chunks.

    Raises:
        ValueError: if even that does not fit.
    """
    best = math.inf
    for recompute in ("none", "full"):
        for layout in _layouts(shape, gpus, node_gpus):
            job = _job(shape, kind, layout, recompute)
            needed = memory_bytes(job)
            if needed <= USABLE * kind.memory_bytes:
                return job
            best = min(best, needed)
    raise ValueError(
        f"{shape.name} on {gpus} x {kind.name}: at least {best / 2**30:.0f} GiB a GPU, of which it "
        f"has {kind.memory_bytes / 2**30:.0f}; give more GPUs (a multiple of {node_gpus}) or take "
        "a smaller model"
    )


def memory_bytes(job: TrainingJob) -> float:
    """Return bytes on a GPU of the first stage: parameters, their states, activations, logits.

    A layer keeps ``34 s b h / tp`` bytes for the backward pass (fused attention, sequence
    parallelism), with full recomputation ``2 s b h / tp`` and one layer more; the first of pp
    stages holds pp micro-batches, interleaved ``1 + (pp-1)/(pp vp)`` times that.
    """
    layout = job.layout
    ranks = layout.dp * layout.cp if job.distributed_optimizer else 1
    dense, routed = job.rank_params
    parameters = PARAM_BYTES * (dense + routed)
    states = STATE_BYTES * (dense / ranks + routed * min(1.0, layout.ep / ranks))
    width = job.rank_tokens * job.model.hidden / layout.tp
    full = job.recompute == "full"
    in_flight = 1.0 * min(layout.pp, job.micro_batches)
    if layout.vp > 1:
        in_flight *= 1 + (layout.pp - 1) / (layout.pp * layout.vp)
    kept = (2 if full else 34) * width * math.ceil(job.model.layers / layout.pp) * in_flight
    logits = 6 * job.rank_tokens * job.model.vocab / layout.tp
    return parameters + states + kept + (34 * width if full else 0.0) + logits


def _layouts(shape: Model, gpus: int, node_gpus: int) -> Iterator[Layout]:
    """Yield layouts from the least to the most model parallelism."""
    degrees = [1 << k for k in range(node_gpus.bit_length())]
    tensor = [t for t in degrees if not (shape.heads % t or node_gpus % t or gpus % t)]
    tensor = tensor[:1] if shape.experts else tensor
    for tp in tensor:
        yield _layout(shape, gpus, node_gpus, tp, 1)
    for pp in range(2, min(gpus // tensor[-1], shape.layers) + 1):
        if gpus // tensor[-1] % pp == 0:
            yield _layout(shape, gpus, node_gpus, tensor[-1], pp)


def _layout(shape: Model, gpus: int, node_gpus: int, tp: int, pp: int) -> Layout:
    dp = gpus // (tp * pp)
    chunks = [v for v in (4, 3, 2) if pp > 1 and shape.layers % (pp * v) == 0]
    ep = math.gcd(dp, shape.experts, node_gpus // tp) if shape.experts else 1
    return Layout(dp=dp, tp=tp, pp=pp, vp=chunks[0] if chunks else 1, ep=ep)


def _job(shape: Model, kind: GPU, layout: Layout, recompute: str) -> TrainingJob:
    batches = max(STAGE_BATCHES * layout.pp, LEAST_BATCHES)
    return TrainingJob(
        gpu=kind,
        model=shape,
        layout=layout,
        gpus=layout.gpus,
        global_batch=layout.dp * batches,
        seq_len=SEQ_LEN,
        dtype="bf16" if kind.bf16_flops else "fp16",
        recompute=recompute,
    )
