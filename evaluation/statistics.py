"""Confidence intervals over seeds.

Every policy sees the same seeds, so two policies are compared by their difference seed by seed:
what a seed makes hard for both cancels out (common random numbers). Intervals are Student's t,
fit for means of 10 or more episodes, each itself a mean over many requests.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Interval:
    """A mean and its confidence interval ``[low, high]``."""

    mean: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Half the interval's length."""
        return (self.high - self.low) / 2.0

    @property
    def excludes_zero(self) -> bool:
        """Whether the mean differs from 0 at the interval's level."""
        return self.low > 0.0 or self.high < 0.0


def mean_interval(values: ArrayLike, level: float = 0.95) -> Interval:
    """Return the mean of independent values and its t interval.

    NaN counts as no value: not every episode has every number. The interval is infinite for a
    single value.

    Raises:
        ValueError: if there is no value.
    """
    x = np.asarray(values, dtype=np.float64)
    x = x[~np.isnan(x)]
    if x.size == 0:
        raise ValueError("no values to average")
    if x.size == 1:
        return Interval(float(x[0]), -math.inf, math.inf)
    half = t_quantile(0.5 + level / 2.0, x.size - 1) * x.std(ddof=1) / math.sqrt(x.size)
    return Interval(float(x.mean()), float(x.mean() - half), float(x.mean() + half))


def paired_interval(a: ArrayLike, b: ArrayLike, level: float = 0.95) -> Interval:
    """Return the interval of the mean of ``a - b``, paired seed by seed.

    Raises:
        ValueError: if the lengths differ.
    """
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if x.shape != y.shape:
        raise ValueError(f"pairs need equal lengths, got {x.shape} and {y.shape}")
    return mean_interval(x - y, level)


def t_quantile(probability: float, freedom: int) -> float:
    """Return the quantile of Student's t distribution, for probabilities in [0.5, 1).

    With ``t = tan(u) * sqrt(freedom)`` the density becomes ``cos(u)**(freedom - 1)`` up to a
    constant; its integral is taken by Gauss-Legendre quadrature and inverted by bisection.
    """
    constant = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2))
    constant /= math.sqrt(math.pi)
    nodes, weights = np.polynomial.legendre.leggauss(64)

    def above_half(u: float) -> float:
        points = 0.5 * u * (nodes + 1.0)
        return constant * 0.5 * u * float(weights @ np.cos(points) ** (freedom - 1))

    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if above_half(middle) < probability - 0.5 else (low, middle)
    return math.tan(low) * math.sqrt(freedom)
