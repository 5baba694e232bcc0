"""Time of the routed experts of one layer."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...hardware.catalogue import GPU, Model
from ...hardware.dtypes import DTYPES
from .constants import Constants

TILE_N = 96
"""Output columns of an expert that one SM computes: kernels choose 64 or 128 for few tokens."""


def experts_s(
    tokens: ArrayLike,
    model: Model,
    gpu: GPU,
    dtype: str,
    tp: int,
    ep: int,
    row: Constants,
    imbalance: float = 1.0,
    sent: bool = False,
) -> NDArray[np.float64]:
    """Return seconds of one rank's experts for ``tokens`` randomly routed tokens of all ranks.

    With E experts, k active, hidden width H, expert width I, w bytes per weight::

        pairs = imbalance tokens k / ep,  hit = E/ep (1 - (1 - k/E)^tokens)
        read(n, k) = hit n k w max(1, SMs / (hit n/96)) / (em bandwidth)
        t = t0 + ((6 H I/tp (pairs + hit tm) / (ec peak))^3
                  + (read(2 I/tp, H) + read(H, I/tp))^3)^(1/3)
              + (2 pairs (2 H + 3 I/tp) + 4 held H) / (ca bandwidth)

    A matrix whose columns do not fill the SMs is read at the rate of those that work: a single
    stream of a model with many small experts is slow. ``row`` holds t0, ec, em, tm and ca. Shape:
    that of ``tokens``. Source: fitted to kernel tables (``constants.toml``).

    Args:
        tokens: of all ranks.
        model: its shapes.
        gpu: of a rank.
        dtype: of the weights.
        tp: ranks that share an expert.
        ep: ranks over which experts are spread.
        row: constants.
        imbalance: pairs of this rank over the mean.
        sent: tokens are sent to the ranks of their experts, so that a rank holds ``tokens / ep`` of
            them; otherwise all.
    """
    tokens = np.asarray(tokens, np.float64)
    hidden, width = model.hidden, model.expert_ffn / tp
    pairs = tokens * model.active_experts / ep * imbalance
    hit = model.experts / ep * (1 - (1 - model.active_experts / model.experts) ** tokens)
    flops = 6 * hidden * width * (pairs + hit * row["tm"])
    compute = flops / (row["ec"] * gpu.peak_flops(dtype))
    rate = row["em"] * gpu.bandwidth_bytes_per_s
    weight_bytes = DTYPES[dtype].weight_bytes
    memory = 0.0
    for n, k in ((2 * width, hidden), (hidden, width)):
        idle = np.maximum(gpu.sms / (np.maximum(hit, 1e-9) * np.ceil(n / TILE_N)), 1.0)
        memory = memory + hit * n * k * weight_bytes * idle / rate
    held = tokens / ep if sent else tokens
    moved = 2 * pairs * (2 * hidden + 3 * width) + 4 * held * hidden
    rest = moved / (row["ca"] * gpu.bandwidth_bytes_per_s)
    return row["t0_us"] * 1e-6 + np.cbrt(compute**3 + memory**3) + rest
