"""Number formats of weights and KV cache: bytes per element and the peak they compute at."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Dtype:
    """One number format.

    Attributes:
        weight_bytes: bytes per weight, scales included.
        activation_bytes: bytes per activation element that the matrix multiplication reads.
        math: name of the :class:`~gpuyard.envs.hardware.catalogue.GPU` field with the peak used.
        experts_only: the format is used for expert weights only, the other layers stay bf16
            (as the released int4 Kimi and MXFP4 gpt-oss checkpoints do).
    """

    weight_bytes: float
    activation_bytes: float
    math: str
    experts_only: bool = False


DTYPES: dict[str, Dtype] = {
    "bf16": Dtype(2.0, 2.0, "bf16_flops"),
    "fp16": Dtype(2.0, 2.0, "fp16_flops"),
    "fp8": Dtype(1.0, 1.0, "fp8_flops"),
    "int8": Dtype(1.0, 1.0, "int8_ops"),  # weights and activations, as SmoothQuant
    "int4": Dtype(0.53, 2.0, "fp16_flops", experts_only=True),  # one fp16 scale per 64 weights
    "nvfp4": Dtype(0.5625, 0.5625, "fp4_flops"),  # one fp8 scale per 16 weights
    "mxfp4": Dtype(0.53125, 2.0, "fp16_flops", experts_only=True),  # one 8-bit scale per 32
}
KV_BYTES: dict[str, float] = {"bf16": 2.0, "fp16": 2.0, "fp8": 1.0}
