"""Data-parallel training of CNNs and BERT: measured rates and the all-reduce of gradients."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from ...hardware.catalogue import GPU, gpu
from ...hardware.cells import did_you_mean
from ..network import internode
from ..network.internode import Network

BACKWARD = 2 / 3
"""Share of a step that is backward pass: two of three matrix multiplications."""
OVERLAP = 0.6
"""Share of the backward pass behind which bucketed gradients travel (0.5 to 0.67)."""
NODE_EFFICIENCY = {"ResNet-50": 0.85, "VGG-16": 0.85}
"""What input pipeline and jitter leave of eight GPUs' rate in one node; BERT loses nothing but the
all-reduce. Source: 0.84 and 0.87 measured for ResNet-50 on A100 and V100."""
ACTIVATION_BYTES = {
    "ResNet-50": 45e6,
    "VGG-16": 110e6,
    "BERT-large-128": 138e6,
    "BERT-large-512": 931e6,
}
"""Kept per sample for the backward pass. BERT: ``s h L (34 + 5 a s / h)`` (arXiv 2205.05198, scores
in memory); CNNs: assumption, mixed precision at 224 x 224."""
STATES = 4
"""Copies of the parameters' size in 32 bits: weights, gradients and Adam's two moments."""


@dataclass(frozen=True)
class Profile:
    """One model on one GPU type, as a single GPU trains it.

    Attributes:
        gradient_bytes: fp32 gradients, reduced once a step.
        samples_per_s: rate of one GPU with ``batch`` samples a step.
        samples_per_s_8: measured rate of eight GPUs in one node; NaN if not measured.
        flops_per_sample: forward and backward.
    """

    model: str
    gpu: GPU
    gradient_bytes: float
    batch: int
    samples_per_s: float
    samples_per_s_8: float
    flops_per_sample: float
    source: str


def profile(model: str, device: GPU) -> Profile:
    """Return the profile of ``model`` on ``device``.

    On a GPU that was not measured the rate is scaled by the 16-bit peak from the one with the
    nearest peak.

    Raises:
        ValueError: if there is no such model.
    """
    table = _profiles()
    rows = [row for row in table if row.model == model]
    if not rows:
        raise ValueError(
            f"no profile of {model!r}: {did_you_mean([], sorted({r.model for r in table}))}"
        )
    near = min(rows, key=lambda r: (r.gpu != device, abs(r.gpu.fp16_flops - device.fp16_flops)))
    if near.gpu == device:
        return near
    rate = near.samples_per_s * device.fp16_flops / near.gpu.fp16_flops
    source = f"{near.source}; scaled from {near.gpu.name}"
    return replace(near, gpu=device, samples_per_s=rate, samples_per_s_8=math.nan, source=source)


def models() -> tuple[str, ...]:
    """Return the models that have a profile."""
    return tuple(dict.fromkeys(row.model for row in _profiles()))


def memory_bytes(job: Profile) -> float:
    """Return device memory of a data-parallel rank: parameters with their states, activations."""
    return STATES * job.gradient_bytes + job.batch * ACTIVATION_BYTES[job.model]


def step_s(job: Profile, gpus: int, network: Network | None = None) -> tuple[float, float]:
    """Return seconds of a data-parallel step on ``gpus`` GPUs, and of its all-reduce alone.

    ``batch/rate/efficiency + max(0, all-reduce - OVERLAP backward)``.
    """
    network = network or internode.network_of(job.gpu)
    compute = job.batch / job.samples_per_s
    if gpus == 1:
        return compute, 0.0
    where = internode.group(gpus, 1, network)
    reduce = internode.collective_s("all_reduce", job.gradient_bytes, where, job.gpu, network)
    exposed = max(0.0, reduce - OVERLAP * BACKWARD * compute)
    return compute / NODE_EFFICIENCY.get(job.model, 1.0) + exposed, reduce


@cache
def _profiles() -> list[Profile]:
    with (Path(__file__).parent / "profiles.csv").open(newline="") as lines:
        return [
            Profile(
                row["model"],
                gpu(row["gpu"]),
                4e6 * float(row["params_m"]),
                int(row["batch_per_gpu"]),
                float(row["samples_per_s"]),
                float(row["samples_per_s_8"] or "nan"),
                1e9 * float(row["gflop_per_sample"]),
                row["source"],
            )
            for row in csv.DictReader(lines)
        ]
