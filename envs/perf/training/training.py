"""Iteration time of distributed training, term by term."""

from __future__ import annotations

import difflib
import math
import tomllib
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

from ...hardware.catalogue import GPU, gpu
from ...hardware.cells import did_you_mean
from ..network import internode
from ..network.internode import Network
from .communication import communications
from .training_job import TrainingJob
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
    count, fill = job.micro_batches, (layout.pp - 1) / layout.vp
    times: dict[str, float] = defaultdict(float)
    for part in communications(job, network):
        kind = part.op if part.axis == "dp" else part.axis
        times[kind] += part.calls * part.seconds(job.gpu, network)
    compute = slower * _compute_s(job, tables)
    tp = slower * (c["tp_exposed"] if job.overlap else 1.0) * times["tp"] / count
    cp = slower * max(0.0, times["cp"] / count - _attention_s(job, tables))
    ep = slower * times["ep"] / count
    stage = compute + tp + cp + ep
    nodes = max(1.0, job.gpus / network.gpus_per_node)
    reduce = times["reduce_scatter"] + times["all_reduce"]
    dp = _exposed_s(job, reduce, times["all_gather"], stage, c)
    return Breakdown(
        compute_s=count * compute,
        tp_s=count * tp,
        cp_s=count * cp,
        ep_s=count * ep,
        bubble_s=fill * stage,
        pp_s=0.0 if job.overlap else c["pp_exposed"] * times["pp"],
        jitter_s=c["jitter"][_format(job.dtype)] * math.log2(nodes) * (count + fill) * compute,
        dp_s=dp,
        optimizer_s=_optimizer_s(job),
        network_s=reduce + times["all_gather"],
    )


def mfu(job: TrainingJob, step_s: float) -> float:
    """Return the model FLOPs utilisation of a step that takes ``step_s``."""
    flops = job.global_batch * sequence_flops(job.model, job.seq_len)
    return flops / (step_s * job.gpus * job.gpu.peak_flops(job.dtype))


def _compute_s(job: TrainingJob, tables: Mapping[str, Any]) -> float:
    """Return seconds of a micro-batch on the slowest stage, without communication."""
    work, device, c = stage_work(job), job.gpu, tables["any"]
    rate = _efficiency(device, job.dtype, tables) * device.peak_flops(job.dtype)
    rate16 = _efficiency(device, "bf16", tables) * device.fp16_flops
    moved = c["elementwise_bytes"] * work.elementwise + c["score_bytes"] * work.scores
    seconds = work.gemm_flops / rate + work.head_flops / rate16 + _attention_s(job, tables)
    return seconds + moved / (c["memory"] * device.bandwidth_bytes_per_s)


def _attention_s(job: TrainingJob, tables: Mapping[str, Any]) -> float:
    return stage_work(job).attention_flops / (tables["any"]["attention"] * job.gpu.fp16_flops)


def _exposed_s(
    job: TrainingJob, reduce_s: float, gather_s: float, stage_s: float, c: Mapping[str, Any]
) -> float:
    """Return exposed seconds of gradient (reduce) and parameter (gather) communication.

    With overlap, gradients travel behind the last backward passes and parameters behind the first
    forward passes: one micro-batch, or one per stage when the schedule is interleaved. What does
    not fit is exposed; in a pipeline at least ``dp_exposed``, a measured share.
    """
    layout = job.layout
    if not job.overlap:
        return reduce_s + gather_s
    behind = stage_s * (min(job.micro_batches, layout.pp) if layout.vp > 1 else 1)
    least = c["dp_exposed"] if layout.pp > 1 else 0.0
    exposed = max(least * reduce_s, reduce_s - behind * 2 / 3)
    return exposed + max(least * gather_s, gather_s - behind / 3)


def _optimizer_s(job: TrainingJob) -> float:
    params = sum(job.rank_params)
    if job.distributed_optimizer:
        params /= job.layout.dp * job.layout.cp
    return OPTIMIZER_BYTES * params / (OPTIMIZER_BANDWIDTH * job.gpu.bandwidth_bytes_per_s)


def _format(dtype: str) -> str:
    """Return the row that stands for a format: 8 bits and fewer, or 16."""
    return "fp8" if dtype in ("fp8", "nvfp4") else "bf16"


def efficiency_source(device: GPU, dtype: str = "bf16") -> tuple[str, str, str]:
    """Return whose training efficiency a GPU takes, its confidence and its source."""
    of, row = _efficiency_row(device, dtype, _tables())
    return of, row["confidence"] if of == device.name else "analogy", row["source"]


def _efficiency(device: GPU, dtype: str, tables: Mapping[str, Any]) -> float:
    return float(_efficiency_row(device, dtype, tables)[1]["efficiency"])


def _efficiency_row(
    device: GPU, dtype: str, tables: Mapping[str, Any]
) -> tuple[str, Mapping[str, Any]]:
    """Return the row of this GPU or the nearest related one; lacking fp8, that of bf16."""
    for wanted in dict.fromkeys((_format(dtype), "bf16")):
        relative = device
        while (
            wanted not in tables["gemm"].get(relative.name, {}) and relative.like != relative.name
        ):
            relative = gpu(relative.like)
        if wanted in tables["gemm"].get(relative.name, {}):
            return relative.name, tables["gemm"][relative.name][wanted]
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
