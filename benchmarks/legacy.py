"""Serving times as the Splitwise simulator has them: vLLM of 2023, bound by its host.

Only for comparisons with that work; today's engines are 16 to 68 % faster, which is what
:mod:`gpuyard.envs.perf.serving.iteration` models. Source: fitted to ``perf_model.csv`` of
Mutinifni/splitwise-sim (MIT), which was measured on DGX-A100 and DGX-H100.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gpuyard.envs.perf.serving.constants import Constants, whole_table

POWER_CAP = 1.30
"""Prefill slows by this factor on the power-capped H100; decode does not."""


def prefill_s(
    model: str, gpu: str, tp: int, tokens: ArrayLike, power_capped: bool = False
) -> NDArray[np.float64]:
    """Return seconds to prefill a batch of ``tokens`` prompt tokens.

    ``(c^4 + (a T)^4)^(1/4) + b max(0, T - 2)`` ms with T in thousands.

    Raises:
        ValueError: if the table has no such configuration.
    """
    row = _row(model, gpu, tp)
    thousands = np.asarray(tokens, np.float64) / 1000
    smooth = (row["c"] ** 4 + (row["a"] * thousands) ** 4) ** 0.25
    ms = smooth + row["b"] * np.maximum(0, thousands - 2)
    return ms * 1e-3 * (POWER_CAP if power_capped else 1.0)


def decode_s(model: str, gpu: str, tp: int, sequences: ArrayLike) -> NDArray[np.float64]:
    """Return seconds of a decode step of ``sequences`` sequences, ``d + e B`` ms.

    Raises:
        ValueError: if the table has no such configuration.
    """
    row = _row(model, gpu, tp)
    return (row["d"] + row["e"] * np.asarray(sequences, np.float64)) * 1e-3


def _row(model: str, gpu: str, tp: int) -> Constants:
    table = whole_table("splitwise")
    row = table.get(model, {}).get(gpu, {}).get(str(tp))
    if row is None:
        known = [f"{m} {g} tp {t}" for m in table for g in table[m] for t in table[m][g]]
        raise ValueError(
            f"Splitwise has no {model} on {gpu} with tp = {tp}; use one of {', '.join(known)}"
        )
    return row
