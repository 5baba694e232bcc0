"""What is measured in one episode, and how each number reads.

=====================  =============================================================
TTFT                   time to first token: first token - arrival
TPOT                   time per output token: (finish - first token) / (tokens - 1)
E2E                    end to end: finish - arrival
SLO attainment         share of requests that met both objectives
goodput                such requests per second
JCT, JRT, JWT, ...     of training jobs: see :mod:`.jobs`
=====================  =============================================================

The definitions of TTFT and TPOT are those of vLLM's ``benchmark_serving`` and of DistServe (Zhong
et al., OSDI 2024), whose goodput this is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Metric:
    """One number per episode.

    Attributes:
        key: its name in tables and CSV files, with the unit as suffix.
        label: its heading.
        scale: factor from the stored unit to the heading's.
        digits: decimals shown.
        higher_is_better: the direction of improvement.
    """

    key: str
    label: str
    scale: float = 1.0
    digits: int = 3
    higher_is_better: bool = False


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
    Metric("prefix_hit_rate", "prefix hits %", scale=100.0, digits=1, higher_is_better=True),
    Metric("jct_mean_s", "JCT s", digits=0),
    Metric("jct_p99_s", "JCT P99 s", digits=0),
    Metric("jrt_mean_s", "JRT s", digits=0),
    Metric("jwt_mean_s", "JWT s", digits=0),
    Metric("network_wait_share", "of it for network %", scale=100.0, digits=1),
    Metric("slowdown_mean", "slowdown", digits=2),
    Metric("rho_p95", "rho P95", digits=2),
    Metric("contention_mean", "contention", digits=3),
    Metric("jain_jobs", "Jain", digits=3, higher_is_better=True),
    Metric("utilisation", "utilisation %", scale=100.0, digits=1, higher_is_better=True),
    Metric("fragmentation", "fragmented %", scale=100.0, digits=1),
    Metric("preemptions", "preemptions", digits=1),
)
"""The columns of the printed tables, in order; a scenario shows those that it measures."""

PERCENTILES = (50, 90, 99)


def metric(key: str) -> Metric:
    """Return the description of ``key``; a key without one is shown as it is."""
    return next((m for m in METRICS if m.key == key), Metric(key, key))


def request_latencies(requests: dict[str, NDArray]) -> dict[str, NDArray[np.float64]]:
    """Return TTFT, TPOT and E2E per finished request, seconds.

    Args:
        requests: the per-request table of an episode (``results(i)`` of the environment).

    Returns:
        ``ttft``, ``tpot`` and ``e2e``; requests of one output token have no TPOT.
    """
    finished = np.isfinite(requests["finish_s"])
    table = {key: np.asarray(column)[finished] for key, column in requests.items()}
    decoded = table["output_tokens"] > 1
    decode_s = table["finish_s"] - table["first_token_s"]
    return {
        "ttft": table["first_token_s"] - table["arrival_s"],
        "tpot": decode_s[decoded] / (table["output_tokens"][decoded] - 1),
        "e2e": table["finish_s"] - table["arrival_s"],
    }


def latency_metrics(latencies: dict[str, NDArray[np.float64]]) -> dict[str, float]:
    """Return mean and percentiles of each latency, named like ``ttft_p99_s``."""
    metrics: dict[str, float] = {}
    for name, values in latencies.items():
        metrics |= summarise(name, values, PERCENTILES, "_s")
    return metrics


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
