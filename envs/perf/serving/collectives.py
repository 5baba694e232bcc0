"""Collectives among the GPUs of one scale-up domain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...hardware.catalogue import GPU, gpu
from .constants import calibration, constants, whole_table

PCIE = "RTX-PRO-6000"  # the one PCIe host that was measured with working peer-to-peer
LINKS = ("nvlink", "pcie", "host")


@dataclass(frozen=True)
class Link:
    """What a group of GPUs talks over: one of LINKS, and one GPU's rate per direction."""

    kind: str
    bytes_per_s: float


def all_reduce_s(
    size_bytes: ArrayLike, ranks: int, device: GPU, fused: bool = True, links: str = ""
) -> NDArray[np.float64]:
    """Return seconds of an all-reduce of ``size_bytes`` over ``ranks`` GPUs of one domain.

    ``alpha + 2 (n-1)/n S / bus + c (1 - exp(-S/S0))``; the last term is the knee between the
    low-latency and the high-bandwidth protocols.

    Constants are measured for 2, 4 and 8 GPUs and interpolated in log2 n (extrapolated above 8). A
    GPU without its own takes a related one's, its bandwidth scaled by the link rate. Through the
    host the curve of PCIe starts later and runs at the host's rate (``[through_host]``).

    Args:
        size_bytes: payload per GPU; the result has its shape.
        ranks: number of GPUs; 1 costs nothing.
        device: the GPU type.
        fused: inside a serving engine, which fuses it with the norm that follows (a calibrated
            factor on alpha); False: the collective timed alone.
        links: what to talk over, see :func:`link_of`.
    """
    size = np.asarray(size_bytes, np.float64)
    if ranks == 1:
        return np.zeros_like(size)
    alpha, bus, knee, knee_bytes, fixed = _curve(ranks, device, links)
    factor = 2 * (ranks - 1) / ranks
    alpha *= fixed if fused else 1.0
    return alpha + factor * size / bus + knee * -np.expm1(-size / knee_bytes)


def has_nvlink(device: GPU) -> bool:
    """Return whether GPUs of this type have links of their own, beside PCIe."""
    return device.scale_up not in ("pcie", "host")


def link_of(ranks: int, device: GPU, links: str = "") -> Link:
    """Return what a group of ``ranks`` GPUs talks over.

    A bridge joins two GPUs; more of them talk over PCIe.

    Args:
        ranks: number of GPUs.
        device: the GPU type.
        links: one of LINKS; "" stands for what is usual for the GPU.
    """
    kind = links or ("nvlink" if has_nvlink(device) else device.scale_up)
    if kind == "nvlink" and device.scale_up == "bridge" and ranks > 2:
        kind = "pcie"
    if kind == "nvlink":
        return Link(kind, device.scale_up_bytes_per_s)
    slot = device.pcie_bytes_per_s
    return Link(kind, through_host_bytes_per_s(slot) if kind == "host" else slot)


def link_bytes_per_s(ranks: int, device: GPU, links: str = "") -> float:
    """Return one GPU's link rate per direction in a group of ``ranks``."""
    return link_of(ranks, device, links).bytes_per_s


def through_host_bytes_per_s(slot_bytes_per_s: float) -> float:
    """Return the rate at which a collective crosses host memory.

    A share of slow PCIe slots, at most what NCCL's few shared-memory channels carry.
    """
    row = whole_table("through_host")
    return float(min(row["bus_gbps"] * 1e9, row["slot_share"] * slot_bytes_per_s))


def through_host_s() -> float:
    """Return how much later than peer-to-peer a collective through the host begins."""
    return float(whole_table("through_host")["alpha_us"]) * 1e-6


def _curve(ranks: int, device: GPU, links: str) -> tuple[float, float, float, float, float]:
    """Return alpha in s, bus rate in bytes/s, knee in s, its size in bytes, factor if fused."""
    link = link_of(ranks, device, links)
    base = device if link.kind == "nvlink" else gpu(PCIE)
    low = 2 if ranks < 4 else 4
    rows = [constants("allreduce", base, str(n)) for n in (low, 2 * low)]
    at = np.log2(ranks / low)
    alpha, bus, knee, knee_mb = (
        (1 - at) * rows[0][name] + at * rows[1][name]
        for name in ("alpha_us", "bus_gbps", "c_us", "s0_mb")
    )
    fixed, _ = calibration(rows[0], "allreduce")
    alpha, bus = alpha * 1e-6, bus * 1e9
    if link.kind == "host":
        alpha, bus = alpha + through_host_s(), link.bytes_per_s
    else:
        bus *= link.bytes_per_s / link_bytes_per_s(ranks, gpu(rows[0]["of"]), link.kind)
    return alpha, bus, max(knee, 0.0) * 1e-6, max(knee_mb, 0.1) * 1e6, fixed
