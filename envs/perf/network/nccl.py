"""NCCL collectives among the GPUs of one scale-up domain, as training jobs launch them.

Serving engines use faster kernels of their own, :mod:`gpuyard.envs.perf.serving.collectives`.
"""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...hardware.catalogue import GPU, gpu
from ..serving.collectives import PCIE, link_bytes_per_s, link_of, through_host_s

OPS = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all")
P2P_ALPHA_S = 8e-6
P2P_EFFICIENCY = 0.8
"""Send/recv over NVLink: 8 us and 359 of 450 GB/s. Source: Vidur's H100 hosts."""


def bus_factor(op: str, ranks: int) -> float:
    """Return bytes that cross one GPU's link per byte of payload.

    ``2 (n-1)/n`` for an all-reduce, ``(n-1)/n`` for the others; the payload is the whole buffer (of
    an all-gather its output).

    Raises:
        ValueError: if ``op`` is none of :data:`OPS`.
    """
    if op not in OPS:
        raise ValueError(f"collective {op!r} is unknown; use one of {', '.join(OPS)}")
    return (2 if op == "all_reduce" else 1) * (ranks - 1) / ranks


def collective_s(
    op: str, size_bytes: ArrayLike, ranks: int, device: GPU, links: str = ""
) -> NDArray[np.float64]:
    """Return seconds of one collective; shape as ``size_bytes`` (payload, see bus_factor).

    ``alpha + f S / bus + c (1 - exp(-(S/S0)^2))``: the square makes the last term the step that
    NCCL's change from its low-latency to its high-bandwidth protocol leaves in the measurements.
    Constants are measured for 2, 4 and 8 ranks (``nccl.toml``) and interpolated in log2 of the
    ranks; beyond, the fixed terms are extrapolated and the bus stays. A GPU without its own takes a
    related one's, its bus scaled by the link rate. ``links`` as in
    :func:`gpuyard.envs.perf.serving.collectives.link_of`.
    """
    size = np.asarray(size_bytes, np.float64)
    factor = bus_factor(op, ranks)
    if ranks == 1:
        return np.zeros_like(size)
    alpha, bus, knee, knee_size = _curve(op, ranks, device, links)
    return alpha + factor * size / bus - knee * np.expm1(-((size / knee_size) ** 2))


def send_recv_s(size_bytes: ArrayLike, device: GPU) -> NDArray[np.float64]:
    """Return seconds of a send/recv between two GPUs of one domain."""
    link = link_of(2, device)
    size = np.asarray(size_bytes, np.float64)
    if link.kind == "host":
        return P2P_ALPHA_S + through_host_s() + size / link.bytes_per_s
    return P2P_ALPHA_S + size / (P2P_EFFICIENCY * link.bytes_per_s)


def _curve(op: str, ranks: int, device: GPU, links: str) -> tuple[float, float, float, float]:
    """Return alpha in s, bus rate in bytes/s, knee in s and its size in bytes."""
    link = link_of(ranks, device, links)
    measured = _measured(device if link.kind == "nvlink" else gpu(PCIE))
    rows = _tables()[op][measured.name]
    low = 2 if ranks < 4 or "8" not in rows else 4
    at = np.log2(ranks / low)
    alpha, bus, knee, knee_mb = (
        (1 - at) * a + at * b for a, b in zip(rows[str(low)], rows[str(2 * low)], strict=True)
    )
    if at > 1:  # more ranks than were measured take longer to start, not less time per byte
        bus = rows[str(2 * low)][1]
    alpha, bus = alpha * 1e-6, bus * 1e9
    if link.kind == "host":
        alpha, bus = alpha + through_host_s(), link.bytes_per_s
    else:
        bus *= link.bytes_per_s / link_bytes_per_s(ranks, measured, link.kind)
    return alpha, bus, max(knee, 0.0) * 1e-6, max(knee_mb, 0.05) * 1e6


def _measured(device: GPU) -> GPU:
    """Return the nearest relative that was measured."""
    while device.name not in _tables()["all_reduce"]:
        if device.like == device.name:
            raise ValueError(f"GPU {device.name}: like = {device.like!r} has no NCCL constants")
        device = gpu(device.like)
    return device


@cache
def _tables() -> dict[str, Any]:
    with (Path(__file__).parent / "nccl.toml").open("rb") as file:
        return tomllib.load(file)
