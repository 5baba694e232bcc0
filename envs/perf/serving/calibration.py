"""A replica's own constants, fitted to measurements of it, on top of the model's.

They change the cost table (:mod:`.cost_table`) and nothing else::

    linear[T] = linear[1] + step_s + prefill * (linear[T] - linear[1])     T >= 1
    head[S]   = head[1] + decode * (head[S] - head[1])                     S >= 1
    prefill attention times ``prefill``; decode and mixed attention times ``decode``
    the host's line, where there is one, starts ``step_s`` later

so that every step is linear in the three, up to the longer of host and GPU. What a step reads and
does whatever its batch (weights, launches, host) is known only as a sum: ``step_ms`` corrects it.
:mod:`.calibrate` fits them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import numpy as np

from .constants import Source
from .cost_table import CostTable

MOST_FACTOR = 100.0
MOST_STEP_MS = 1000.0


@dataclass(frozen=True)
class Calibration:
    """What a replica's own measurements say of the model of it.

    Attributes:
        prefill: factor on what each token of a step after the first, and prefill attention, take.
        decode: factor on what each sequence after the first, and reading the cache, take.
        step_ms: milliseconds added to every step; may be negative.
        source: the measurements, for :func:`~gpuyard.envs.scenario.provenance.provenance`.

    Raises:
        ValueError: naming the field, its value and what is allowed.
    """

    prefill: float = field(default=1.0, metadata={"above": 0})
    decode: float = field(default=1.0, metadata={"above": 0})
    step_ms: float = 0.0
    source: str = ""

    def __post_init__(self) -> None:
        for name in ("prefill", "decode"):
            if not 0 < getattr(self, name) <= MOST_FACTOR:
                raise ValueError(
                    f"calibration.{name} = {getattr(self, name)!r}: give a factor above 0 and up "
                    f"to {MOST_FACTOR:g}"
                )
        if not -MOST_STEP_MS <= self.step_ms <= MOST_STEP_MS:
            raise ValueError(
                f"calibration.step_ms = {self.step_ms!r}: give -{MOST_STEP_MS:g} to "
                f"{MOST_STEP_MS:g} milliseconds"
            )


FACTORS = {"prefill": ("pre_",), "decode": ("dec_", "mix_")}
"""Coefficients that each factor multiplies, by their first letters."""


def calibrated(table: CostTable, own: Calibration, gpu: str) -> CostTable:
    """Return a replica's costs with its own constants.

    Args:
        table: the model's.
        own: the constants.
        gpu: the replica's, for the source.

    Raises:
        ValueError: a step would take no time.
    """
    step_s = own.step_ms * 1e-3
    shortest_s = float(table.linear_s[1])
    if shortest_s + step_s <= 0:
        raise ValueError(
            f"calibration.step_ms = {own.step_ms:g}: give more than -{1e3 * shortest_s:.3f}, all "
            "of the shortest step"
        )
    linear = shortest_s + step_s + own.prefill * (table.linear_s - shortest_s)
    head = table.head_s[1] + own.decode * (table.head_s - table.head_s[1])
    linear[0] = head[0] = 0.0
    linear.flags.writeable = head.flags.writeable = False
    cost = table.coefficients.copy()
    for constant, beginnings in FACTORS.items():
        for name in cost.dtype.names or ():
            if name.startswith(beginnings) and name != "pre_pad":
                cost[name] *= getattr(own, constant)
    if cost["host_s"] > 0:
        cost["host_s"] = np.maximum(cost["host_s"] + step_s, 0.0)
    told = ", ".join(f"{f.name} {getattr(own, f.name):.4g}" for f in fields(own)[:-1])
    source = f"calibrated on {own.source or 'measurements of the scenario'}: {told}"
    used = Source("calibration", gpu, "", gpu, "calibrated", source)
    return CostTable(cost, linear, head, tuple(sorted({*table.sources, used})))
