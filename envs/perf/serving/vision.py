"""Time of a vision encoder, which runs before the prompt that an image is part of.

A transformer of L layers on B crops of n patches, hidden width H, h heads of d elements::

    t = image + L (gemm(B n) + elementwise(B n) + t0 + 4 B h d n (n + s0) / (ec peak))

with the matrix multiplications of :mod:`.gemm` in 16 bits and attention without a mask. A
convolutional encoder takes its FLOPs at a share of the peak. ``image``: decoding and resizing on
the CPU, which the front end does. Source: perf_models 3.7 of the reference; constants ``[vit]`` and
``[vision]``. An encoder runs on one GPU whatever the replica's layout, as vLLM's
``mm_encoder_tp_mode = "data"`` does with one image at a time; its tensor parallelism is left out.
"""

from __future__ import annotations

from ...hardware.catalogue import GPU
from ...hardware.encoders import Encoder, Image
from .constants import constants
from .gemm import gemm_s


def encode_s(encoder: Encoder, gpu: GPU, image: Image) -> float:
    """Return seconds of one image on one GPU, its preparation included."""
    return prepare_s(gpu, image) + compute_s(encoder, gpu, image)


def prepare_s(gpu: GPU, image: Image) -> float:
    """Return seconds in which the CPU beside a GPU prepares one image."""
    row = constants("vision", gpu)
    return float(row["image_ms"] * 1e-3 + row["mpx_ms"] * 1e-3 * image.pixels / 1e6)


def compute_s(encoder: Encoder, gpu: GPU, image: Image) -> float:
    """Return seconds in which a GPU encodes one prepared image."""
    if not encoder.layers:
        flops = encoder.gflops_per_mpx * 1e9 * image.pixels / 1e6
        return float(flops / (constants("vision", gpu)["conv_ec"] * gpu.fp16_flops))
    return encoder.layers * _layer_s(encoder, gpu, image)


def _layer_s(encoder: Encoder, gpu: GPU, image: Image) -> float:
    hidden, width = encoder.hidden, encoder.ffn
    tokens, dtype = image.crops * image.patches, "bf16" if gpu.bf16_flops else "fp16"
    shapes = (
        (3 * hidden, hidden),
        (hidden, hidden),
        (width * (2 if encoder.gated else 1), hidden),
        (hidden, width),
    )
    linear_s = sum(float(gemm_s(tokens, n, k, gpu, dtype)) for n, k in shapes)
    row = constants("vit", gpu)
    flops = 4 * hidden * tokens * (image.patches + row["s0"])
    attention_s = row["t0_us"] * 1e-6 + flops / (row["ec"] * gpu.fp16_flops)
    return linear_s + attention_s + _elementwise_s(encoder, gpu, tokens)


def _elementwise_s(encoder: Encoder, gpu: GPU, tokens: int) -> float:
    """Return seconds of norms, residuals and activation, as :func:`.host.elementwise_s`."""
    row = constants("elementwise", gpu)
    moved = (16 + 12) * encoder.hidden + 6 * encoder.ffn
    traffic_s = row["traffic"] * tokens * moved / (row["em"] * gpu.bandwidth_bytes_per_s)
    return float(row["launches"] * row["launch_us"] * 1e-6 + traffic_s)
