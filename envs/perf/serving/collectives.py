"""Collectives among the GPUs of one scale-up domain."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...hardware.catalogue import GPU, gpu
from .constants import calibration, constants

PCIE = "RTX-PRO-6000"  # the one PCIe host that was measured with working peer-to-peer


def all_reduce_s(
    size_bytes: ArrayLike, ranks: int, device: GPU, fused: bool = True
) -> NDArray[np.float64]:
    """Return seconds of an all-reduce of ``size_bytes`` over ``ranks`` GPUs of one domain.

    ``alpha + 2 (n-1)/n S / bus + c (1 - exp(-S/S0))``; the last term is the knee between the
    low-latency and the high-bandwidth protocols.

    Constants are measured for 2, 4 and 8 GPUs and interpolated in log2 n (extrapolated above 8). A
    GPU without its own takes a related one's, its bandwidth scaled by the link rate.

    Args:
        size_bytes: payload per GPU; the result has its shape.
        ranks: number of GPUs; 1 costs nothing.
        device: the GPU type.
        fused: inside a serving engine, which fuses it with the norm that follows (a calibrated
            factor on alpha); False: the collective timed alone.
    """
    size = np.asarray(size_bytes, np.float64)
    if ranks == 1:
        return np.zeros_like(size)
    alpha, bus, knee, knee_bytes, fixed = _curve(ranks, device)
    factor = 2 * (ranks - 1) / ranks
    alpha *= fixed if fused else 1.0
    return alpha + factor * size / bus + knee * -np.expm1(-size / knee_bytes)


def link_bytes_per_s(ranks: int, device: GPU) -> float:
    """Return one GPU's link rate per direction in a group of ``ranks``.

    A bridge joins two GPUs; more of them talk over PCIe 4 x16 (32 GB/s).
    """
    if device.scale_up == "bridge" and ranks > 2:
        return 32e9
    return device.scale_up_bytes_per_s


def _curve(ranks: int, device: GPU) -> tuple[float, float, float, float, float]:
    """Return alpha in s, bus rate in bytes/s, knee in s, its size in bytes, factor if fused."""
    rate = link_bytes_per_s(ranks, device)
    over_pcie = device.scale_up == "pcie" or rate != device.scale_up_bytes_per_s
    base = gpu(PCIE) if over_pcie else device
    low = 2 if ranks < 4 else 4
    rows = [constants("allreduce", base, str(n)) for n in (low, 2 * low)]
    at = np.log2(ranks / low)
    alpha, bus, knee, knee_mb = (
        (1 - at) * rows[0][name] + at * rows[1][name]
        for name in ("alpha_us", "bus_gbps", "c_us", "s0_mb")
    )
    measured = gpu(rows[0]["of"])
    bus *= rate / link_bytes_per_s(ranks, measured)
    fixed, _ = calibration(rows[0], "allreduce")
    return alpha * 1e-6, bus * 1e9, max(knee, 0.0) * 1e-6, max(knee_mb, 0.1) * 1e6, fixed
