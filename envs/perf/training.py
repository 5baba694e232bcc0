"""Iteration time of distributed training, term by term."""

from __future__ import annotations

import difflib
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

from gpuyard.envs.hardware.catalogue import GPU, gpu
from gpuyard.envs.hardware.cells import did_you_mean

from . import internode
from .internode import Network
from .training_job import GRAD_BYTES, TrainingJob
from .training_work import sequence_flops, stage_work

OPTIMIZER_BYTES = 24
"""Memory traffic of Adam per parameter: fp32 weight and two moments, read and written."""
OPTIMIZER_BANDWIDTH = 0.8


@dataclass(frozen=True)
class Breakdown:
    """Seconds of one iteration that each part adds; communication counts where it is exposed.

    ``bubble_s`` is the idle time of the pipeline, ``jitter_s`` what waiting for the slowest node
    costs. ``network_s`` is the whole time that gradients and parameters spend on the network, of
    which ``dp_s`` is exposed.
    """

    compute_s: float
    tp_s: float
    cp_s: float
    ep_s: float
    bubble_s: float
    pp_s: float
    jitter_s: float
    dp_s: float
    optimizer_s: float
    network_s: float

    @property
    def total_s(self) -> float:
        """The iteration time."""
        return sum(getattr(self, f.name) for f in fields(self) if f.name != "network_s")


def iteration(
    job: TrainingJob, network: Network | None = None, constants: Mapping[str, Any] | None = None
) -> Breakdown:
    """Return the time of one training step.

    ``(compute + exposed TP, CP, EP) (micro_batches + (pp-1)/vp)`` plus jitter, exposed gradient and
    parameter communication and the optimizer. A micro-batch on the slowest stage costs::

        gemm/(e P) + head/(e16 P16) + attention/(ea P16) + ke tokens layers h/(tp em BW)
        + x_tp 4 layers AR(tp, 2 tokens h)      (6 with full recomputation)

    times the factor of the software. The structure is that of arXiv 2104.04473; constants and their
    source are in ``training.toml``, errors in ``docs/accuracy_training.md``.

    Args:
        job: what runs.
        network: what it gets from the fabric; by default the usual NIC of the GPU.
        constants: the tables of ``training.toml``, to try others.

    Raises:
        ValueError: if the software has no row.
    """
    tables = _tables() if constants is None else constants
    network = network or internode.network_of(job.gpu)
    c, layout = tables["any"], job.layout
    slower = _software(job.software, tables)
    compute = slower * _compute_s(job, tables)
    tp = slower * (c["tp_exposed"] if job.overlap else 1.0) * _tp_s(job, network)
    cp = slower * _cp_s(job, network, tables)
    ep = slower * _ep_s(job, network)
    stage = compute + tp + cp + ep
    count, fill = job.micro_batches, (layout.pp - 1) / layout.vp
    nodes = max(1.0, job.gpus / network.gpus_per_node)
    dp, whole = _dp_s(job, network, stage, c)
    return Breakdown(
        compute_s=count * compute,
        tp_s=count * tp,
        cp_s=count * cp,
        ep_s=count * ep,
        bubble_s=fill * stage,
        pp_s=0.0 if job.overlap else c["pp_exposed"] * _pp_s(job, network),
        jitter_s=c["jitter"][_format(job.dtype)] * math.log2(nodes) * (count + fill) * compute,
        dp_s=dp,
        optimizer_s=_optimizer_s(job),
        network_s=whole,
    )


def mfu(job: TrainingJob, step_s: float) -> float:
    """Return the model FLOPs utilisation of a step that takes ``step_s``."""
    flops = job.global_batch * sequence_flops(job.model, job.seq_len)
    return flops / (step_s * job.gpus * job.gpu.peak_flops(job.dtype))


def _compute_s(job: TrainingJob, tables: Mapping[str, Any]) -> float:
    work, device, c = stage_work(job), job.gpu, tables["any"]
    peak16 = device.fp16_flops
    seconds = work.gemm_flops / (
        _efficiency(device, job.dtype, tables) * device.peak_flops(job.dtype)
    )
    seconds += work.head_flops / (_efficiency(device, "bf16", tables) * peak16)
    seconds += work.attention_flops / (c["attention"] * peak16)
    moved = c["elementwise_bytes"] * work.elementwise
    moved += c["score_bytes"] * work.scores
    return seconds + moved / (c["memory"] * device.bandwidth_bytes_per_s)


def _tp_s(job: TrainingJob, network: Network) -> float:
    """Return seconds of tensor-parallel communication per micro-batch."""
    where = internode.group(job.layout.tp, 1, network)
    one = internode.collective_s("all_reduce", job.activation_bytes, where, job.gpu, network)
    return stage_work(job).layers * (6 if job.recompute == "full" else 4) * one


def _cp_s(job: TrainingJob, network: Network, tables: Mapping[str, Any]) -> float:
    """Return exposed seconds per micro-batch of the ring that passes keys and values around.

    One pass forward and two backward (values and their gradients), hidden behind attention as far
    as that lasts.
    """
    cp, tp, model = job.layout.cp, job.layout.tp, job.model
    if cp == 1:
        return 0.0
    heads = max(1, model.kv_heads // tp)
    block = 2 * 2 * job.rank_tokens * heads * model.head_dim
    where = internode.group(cp, tp, network)
    hop = (
        float(internode.nccl.send_recv_s(block, job.gpu))
        if where.nodes == 1
        else internode.send_recv_s(block, network)
    )
    work = stage_work(job)
    attention = work.attention_flops / (tables["any"]["attention"] * job.gpu.fp16_flops)
    return max(0.0, 3 * (cp - 1) * work.layers * hop - attention)


def _ep_s(job: TrainingJob, network: Network) -> float:
    """Return seconds per micro-batch of dispatch and combine, forward and backward."""
    layout, model = job.layout, job.model
    if layout.ep == 1:
        return 0.0
    size = job.activation_bytes * model.active_experts / layout.tp
    where = internode.group(layout.ep, layout.tp, network)
    one = internode.collective_s("all_to_all", size, where, job.gpu, network)
    share = model.moe_layers / model.layers
    return stage_work(job).layers * share * (6 if job.recompute == "full" else 4) * one


def _pp_s(job: TrainingJob, network: Network) -> float:
    """Return seconds that a rank spends on send/recv between stages, all micro-batches."""
    layout = job.layout
    if layout.pp == 1:
        return 0.0
    one = internode.send_recv_s(job.activation_bytes / layout.tp, network)
    return 2 * (job.micro_batches * layout.vp + layout.pp - 1) * one


def _dp_s(
    job: TrainingJob, network: Network, stage_s: float, c: Mapping[str, float]
) -> tuple[float, float]:
    """Return exposed and whole seconds of gradient and parameter communication.

    With overlap, gradients travel behind the last backward passes and parameters behind the first
    forward passes: one micro-batch, or one per stage when the schedule is interleaved. What does
    not fit is exposed; in a pipeline at least ``dp_exposed``, a measured share.
    """
    layout = job.layout
    groups = zip(
        job.rank_params, (layout.dp * layout.cp, layout.dp * layout.cp // layout.ep), strict=True
    )
    reduce = gather = 0.0
    for params, ranks in groups:
        where = internode.group(ranks, layout.tp, network)
        grads = GRAD_BYTES[job.grad_dtype] * params
        if not params or ranks == 1:
            continue
        if job.distributed_optimizer:
            reduce += internode.collective_s("reduce_scatter", grads, where, job.gpu, network)
            gather += internode.collective_s("all_gather", 2 * params, where, job.gpu, network)
        else:
            reduce += internode.collective_s("all_reduce", grads, where, job.gpu, network)
    whole = reduce + gather
    if not job.overlap:
        return whole, whole
    behind = stage_s * (min(job.micro_batches, layout.pp) if layout.vp > 1 else 1)
    least = c["dp_exposed"] if layout.pp > 1 else 0.0
    exposed = max(least * reduce, reduce - behind * 2 / 3)
    exposed += max(least * gather, gather - behind / 3)
    return exposed, whole


def _optimizer_s(job: TrainingJob) -> float:
    params = sum(job.rank_params)
    if job.distributed_optimizer:
        params /= job.layout.dp * job.layout.cp
    return OPTIMIZER_BYTES * params / (OPTIMIZER_BANDWIDTH * job.gpu.bandwidth_bytes_per_s)


def _format(dtype: str) -> str:
    """Return the row that stands for a format: 8 bits and fewer, or 16."""
    return "fp8" if dtype in ("fp8", "nvfp4") else "bf16"


def _efficiency(device: GPU, dtype: str, tables: Mapping[str, Any]) -> float:
    """Return the efficiency of this GPU or the nearest related one; lacking fp8, that of bf16."""
    for wanted in dict.fromkeys((_format(dtype), "bf16")):
        relative = device
        while (
            wanted not in tables["gemm"].get(relative.name, {}) and relative.like != relative.name
        ):
            relative = gpu(relative.like)
        if wanted in tables["gemm"].get(relative.name, {}):
            return tables["gemm"][relative.name][wanted]["efficiency"]
    raise ValueError(f"GPU {device.name}: like = {device.like!r} has no training efficiency")


def _software(name: str, tables: Mapping[str, Any]) -> float:
    table = tables["software"]
    if name not in table:
        near = difflib.get_close_matches(name, table, n=3, cutoff=0.3)
        raise ValueError(f"unknown training software {name!r}: {did_you_mean(near, table)}")
    return table[name]


@cache
def _tables() -> dict[str, Any]:
    with (Path(__file__).parent / "training.toml").open("rb") as file:
        return tomllib.load(file)
