"""Hash collisions of ECMP in closed form.

k equal flows at line rate, each hashed on one of n equal uplinks. A collective in lock-step runs at
the speed of its busiest uplink, so it slows by ``E[max load] / max(1, k/n)``.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np


def collision_probability(flows: int, uplinks: int) -> float:
    """Return the chance that some uplink gets two flows, ``1 - n! / ((n-k)! n^k)``."""
    if flows > uplinks:
        return 1.0
    return 1 - math.prod(1 - i / uplinks for i in range(flows))


@lru_cache(maxsize=4096)
def expected_max_load(flows: int, uplinks: int) -> float:
    """Return the expected number of flows on the busiest uplink (exact).

    ``E[max] = sum over m >= 0 of (1 - P(max <= m))`` where ``P(max <= m) = k! / n^k [x^k]
    (sum_{i<=m} x^i / i!)^n``: the loads are independent Poisson variables given their sum.

    Args:
        flows: k >= 0.
        uplinks: n >= 1.

    Raises:
        ValueError: naming the argument, its value and the remedy.
    """
    if flows < 0:
        raise ValueError(f"flows = {flows}: give a number >= 0")
    if uplinks < 1:
        raise ValueError(f"uplinks = {uplinks}: give a number >= 1")
    mean = flows / uplinks
    poisson = np.array(
        [math.exp(i * math.log(mean or 1) - mean - math.lgamma(i + 1)) for i in range(flows + 1)]
    )
    whole = _coefficient(poisson, uplinks, flows)
    expected = 0.0
    for m in range(math.ceil(mean), flows):
        beyond = (
            1
            - _coefficient(np.where(np.arange(flows + 1) <= m, poisson, 0.0), uplinks, flows)
            / whole
        )
        expected += beyond
        if beyond < 1e-12:
            break
    return math.ceil(mean) + expected


def slowdown(flows: int, uplinks: int, queue_pairs: int = 1) -> float:
    """Return how much slower a lock-step collective runs than on perfectly spread paths.

    Args:
        flows: k >= 1 flows at line rate.
        uplinks: n equal uplinks.
        queue_pairs: parts into which each flow is split, each hashed on its own; a part has
            1/queue_pairs of the rate.
    """
    parts = flows * queue_pairs
    return expected_max_load(parts, uplinks) / queue_pairs / max(1.0, flows / uplinks)


def iteration_slowdown(exposed: float, slower: float) -> float:
    """Return how much an iteration slows whose share ``exposed`` waits for the network."""
    return 1 + exposed * (slower - 1)


def _coefficient(terms: np.ndarray, power: int, degree: int) -> float:
    """Return the coefficient of ``x^degree`` in the ``power``-th power of a polynomial."""
    result = np.zeros(degree + 1)
    result[0] = 1.0
    base = terms[: degree + 1]
    while power:
        if power & 1:
            result = np.convolve(result, base)[: degree + 1]
        power >>= 1
        if power:
            base = np.convolve(base, base)[: degree + 1]
    return float(result[degree])
