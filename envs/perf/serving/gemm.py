"""Time of one matrix multiplication of a linear layer."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...hardware.catalogue import GPU
from ...hardware.dtypes import DTYPES
from .constants import Constants, calibration, constants


def gemm_s(
    tokens: ArrayLike, n: int, k: int, gpu: GPU, dtype: str, stack: str = ""
) -> NDArray[np.float64]:
    """Return seconds of ``(tokens, k) x (k, n)`` inside a serving engine.

    The isolated kernel of :func:`kernel_s`, its fixed and size-dependent part corrected by the
    end-to-end calibration of this GPU and format (1 where there is none). Some kernels are those of
    a serving ``stack``.
    """
    row = constants("gemm", gpu, dtype, stack)
    fixed, rest = calibration(row, row["key"])
    return fixed * row["t0_us"] * 1e-6 + rest * _variable_s(tokens, n, k, gpu, dtype, row)


def kernel_s(
    tokens: ArrayLike,
    n: int,
    k: int,
    gpu: GPU,
    dtype: str,
    row: Constants | None = None,
    stack: str = "",
) -> NDArray[np.float64]:
    """Return seconds of the kernel timed alone.

    A smooth roofline whose compute part counts waves of output tiles over the SMs::

        waves = ceil(m/tile_m) ceil(n/tile_n) / SMs,  part-rounded up by omega
        tc    = waves SMs tile_m tile_n 2 (k + k0) / (ec peak)
        tm    = (weight_bytes n k + activation_bytes m k + 2 m n) / (em bandwidth)
        t     = t0 + (tc^4 + tm^4)^(1/4)  [+ 3 m k / (eq bandwidth) to quantise activations]

    A row with ``io`` moves the activations (``m k`` and ``m n``) that many times: output tiles
    read them again, which slows small GEMMs by a tenth before compute does.

    Shape: that of ``tokens``. Source: fitted to kernel tables (``constants.toml``).
    """
    row = constants("gemm", gpu, dtype, stack) if row is None else row
    return row["t0_us"] * 1e-6 + _variable_s(tokens, n, k, gpu, dtype, row)


def _variable_s(
    tokens: ArrayLike, n: int, k: int, gpu: GPU, dtype: str, row: Constants
) -> NDArray[np.float64]:
    m = np.asarray(tokens, np.float64)
    kind = DTYPES[dtype]
    tile = row["tile_m"] * row["tile_n"]
    waves = np.ceil(m / row["tile_m"]) * np.ceil(n / row["tile_n"]) / gpu.sms
    waves = (1 - row["omega"]) * waves + row["omega"] * np.ceil(waves)
    compute = waves * gpu.sms * tile * 2 * (k + row["k0"]) / (row["ec"] * gpu.peak_flops(dtype))
    moved = kind.activation_bytes * m * k + 2 * m * n
    moved = kind.weight_bytes * n * k + row.get("io", 1) * moved
    memory = moved / (row["em"] * gpu.bandwidth_bytes_per_s)
    seconds = np.sqrt(np.sqrt(compute**4 + memory**4))
    if kind.activation_bytes < 2 and "eq" in row:
        seconds = seconds + 3 * m * k / (row["eq"] * gpu.bandwidth_bytes_per_s)
    return seconds
