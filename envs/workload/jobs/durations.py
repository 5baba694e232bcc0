"""Run times as a distribution: knots of its quantiles, linear in ln(seconds) between them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_KNOTS = 400


@dataclass(frozen=True)
class Durations:
    """Seconds by probability; two knots at one time make an atom, as a clipped trace has them.

    Attributes:
        p: float64 (K,), not decreasing, from 0 to 1.
        seconds: float64 (K,), not decreasing, above 0.
    """

    p: NDArray[np.float64]
    seconds: NDArray[np.float64]

    @property
    def mean_s(self) -> float:
        """Mean: a stretch from a to b has the mean (b - a) / ln(b / a)."""
        low, high = self.seconds[:-1], self.seconds[1:]
        log = np.log(high / low)
        middle = np.where(log > 1e-9, (high - low) / np.maximum(log, 1e-9), low)
        return float(np.diff(self.p) @ middle)

    def quantile(self, p: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the time that a share ``p`` of the jobs does not exceed, in seconds."""
        return np.exp(np.interp(p, self.p, np.log(self.seconds)))

    def capped(self, longest_s: float) -> Durations:
        """Return the distribution of min(time, ``longest_s``)."""
        if longest_s >= self.seconds[-1]:
            return self
        if longest_s <= self.seconds[0]:
            return Durations(np.array([0.0, 1.0]), np.full(2, longest_s))
        short = self.seconds < longest_s
        at = np.interp(math.log(longest_s), np.log(self.seconds), self.p)
        return Durations(
            np.concatenate([self.p[short], [at, 1.0]]),
            np.concatenate([self.seconds[short], [longest_s, longest_s]]),
        )


def from_quantiles(p: Sequence[float], seconds: Sequence[float]) -> Durations:
    """Build from published quantiles; ``p`` starts at 0 and ends at 1."""
    return Durations(np.array(p, float), np.array(seconds, float))


def lognormal_mixture(
    weights: Sequence[float],
    mu: Sequence[float],
    sigma: Sequence[float],
    shortest_s: float,
    longest_s: float,
) -> Durations:
    """Build a mixture of log-normals, cut to [``shortest_s``, ``longest_s``].

    Args:
        weights: of the components, together 1.
        mu: mean of ln(seconds) of each.
        sigma: standard deviation of ln(seconds) of each.
        shortest_s: lower end; what lies below is left out, not moved.
        longest_s: upper end, likewise.
    """
    log_s = np.linspace(math.log(shortest_s), math.log(longest_s), _KNOTS)
    below = np.zeros(_KNOTS)
    for w, m, s in zip(weights, mu, sigma, strict=True):
        below += [0.5 * w * math.erfc((m - x) / (s * math.sqrt(2.0))) for x in log_s]
    p = (below - below[0]) / (below[-1] - below[0])
    return Durations(p, np.exp(log_s))
