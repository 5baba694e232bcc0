"""How each number of an episode reads: its heading, unit, digits and direction.

What the numbers are of stands in :mod:`.requests` and :mod:`.jobs`, over which part of an episode
in :mod:`.window`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .classes import parse

Table = dict[str, NDArray]
"""Columns of the requests or jobs of an episode."""


@dataclass(frozen=True)
class Metric:
    """One number per episode.

    Attributes:
        key: its name in tables and CSV files, with the unit as suffix.
        label: its heading.
        scale: factor from the stored unit to the heading's.
        digits: decimals shown.
        higher_is_better: the direction of improvement; None: it has none.
    """

    key: str
    label: str
    scale: float = 1.0
    digits: int = 3
    higher_is_better: bool | None = False


METRICS = (
    Metric("reward", "reward", digits=2, higher_is_better=True),
    Metric("ttft_mean_s", "TTFT s"),
    Metric("ttft_p99_s", "TTFT P99 s"),
    Metric("tpot_mean_s", "TPOT ms", scale=1e3, digits=2),
    Metric("tpot_p99_s", "TPOT P99 ms", scale=1e3, digits=2),
    Metric("e2e_mean_s", "E2E s", digits=2),
    Metric("e2e_p99_s", "E2E P99 s", digits=2),
    Metric("slo_attainment", "SLO %", scale=100.0, digits=1, higher_is_better=True),
    Metric("goodput", "goodput req/s", digits=2, higher_is_better=True),
    Metric("output_tokens_per_s", "tokens/s", digits=0, higher_is_better=True),
    Metric("ttft_weighted_s", "weighted TTFT s"),
    Metric("prefix_hit_rate", "prefix hits %", scale=100.0, digits=1, higher_is_better=True),
    Metric("jct_mean_s", "JCT s", digits=0),
    Metric("jct_p99_s", "JCT P99 s", digits=0),
    Metric("jct_weighted_s", "weighted JCT s", digits=0),
    Metric("jwt_weighted_s", "weighted JWT s", digits=0),
    Metric("jrt_mean_s", "JRT s", digits=0),
    Metric("jwt_mean_s", "JWT s", digits=0),
    Metric("network_wait_share", "of it for network %", scale=100.0, digits=1),
    Metric("slowdown_mean", "slowdown", digits=2),
    Metric("rho_p95", "rho P95", digits=2),
    Metric("contention_mean", "contention", digits=3),
    Metric("jain_clients", "Jain of clients", digits=3, higher_is_better=None),
    Metric("service_gap_tokens", "service gap tokens", digits=0),
    Metric("jain_jobs", "Jain", digits=3, higher_is_better=True),
    Metric("utilisation", "utilisation %", scale=100.0, digits=1, higher_is_better=True),
    Metric("gpu_share", "GPU share %", scale=100.0, digits=1, higher_is_better=None),
    Metric("deserved_share", "of deserved %", scale=100.0, digits=1, higher_is_better=True),
    Metric(
        "deserved_share_min", "least of deserved %", scale=100.0, digits=1, higher_is_better=True
    ),
    Metric("fragmentation", "fragmented %", scale=100.0, digits=1),
    Metric("makespan_s", "makespan s", digits=0),
    Metric("time_to_90_s", "90 % of sessions s", digits=0),
    Metric("session_mean_s", "session s", digits=0),
    Metric("session_p90_s", "session P90 s", digits=0),
    Metric("tokens_per_gpu_s", "tokens/s/GPU", digits=0, higher_is_better=True),
    Metric("imbalance", "imbalance", digits=3),
    Metric("preemptions", "preemptions", digits=1),
    Metric("starts", "replica starts", digits=1, higher_is_better=None),
    Metric("handed_back", "handed back", digits=1),
    Metric("cost", "cost $", digits=0),
    Metric("price_per_h", "fleet $/h", digits=2),
    Metric("cost_per_mtok", "$/M output tokens", digits=3),
    Metric("cost_per_gpu_h", "$/GPU h run", digits=3),
)
"""The columns of the printed tables, in order; a scenario shows those that it measures."""


def metric(key: str) -> Metric:
    """Return the description of ``key``, of all or of a class (:mod:`.classes`).

    A key without one is shown as it is, and has no direction.
    """
    name, _ = parse(key)
    return next((m for m in METRICS if m.key == name), Metric(key, key, higher_is_better=None))


def summarise(
    name: str, values: NDArray[np.float64], percentiles: Sequence[int], suffix: str = ""
) -> dict[str, float]:
    """Return mean and percentiles (interpolated linearly), named like ``ttft_p99_s``.

    Nothing is returned of no values.
    """
    if len(values) == 0:
        return {}
    metrics = {f"{name}_mean{suffix}": float(values.mean())}
    for percent, value in zip(percentiles, np.percentile(values, percentiles), strict=True):
        metrics[f"{name}_p{percent}{suffix}"] = float(value)
    return metrics
