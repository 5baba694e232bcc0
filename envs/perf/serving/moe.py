"""Time of the routed experts of one layer."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...hardware.catalogue import GPU, Model
from ...hardware.dtypes import DTYPES
from .constants import Constants


def experts_s(
    tokens: ArrayLike,
    model: Model,
    gpu: GPU,
    dtype: str,
    tp: int,
    ep: int,
    row: Constants,
) -> NDArray[np.float64]:
    """Return seconds of one rank's experts for ``tokens`` randomly routed tokens of all ranks.

    With E experts, k active, hidden width H, expert width I, w bytes per weight::

        pairs = tokens k / ep,  hit = E/ep (1 - (1 - k/E)^tokens),  W = 3 H I/tp w
        t = t0 + ((6 H I/tp (pairs + hit tm) / (ec peak))^3 + (hit W / (em bandwidth))^3)^(1/3)
              + (2 pairs (2 H + 3 I/tp) + 4 tokens H) / (ca bandwidth)

    ``row`` holds t0, ec, em, tm and ca. Shape: that of ``tokens``. Source: fitted to kernel tables
    (``constants.toml``).
    """
    tokens = np.asarray(tokens, np.float64)
    hidden, width = model.hidden, model.expert_ffn / tp
    pairs = tokens * model.active_experts / ep
    hit = model.experts / ep * (1 - (1 - model.active_experts / model.experts) ** tokens)
    flops = 6 * hidden * width * (pairs + hit * row["tm"])
    compute = flops / (row["ec"] * gpu.peak_flops(dtype))
    weights = hit * 3 * hidden * width * DTYPES[dtype].weight_bytes
    memory = weights / (row["em"] * gpu.bandwidth_bytes_per_s)
    moved = 2 * pairs * (2 * hidden + 3 * width) + 4 * tokens * hidden
    rest = moved / (row["ca"] * gpu.bandwidth_bytes_per_s)
    return row["t0_us"] * 1e-6 + np.cbrt(compute**3 + memory**3) + rest
