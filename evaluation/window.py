"""The steady part of an episode, over which rates, means and percentiles are taken.

An episode begins with an empty world and ends when its last request or job has: at first nobody
queues, and at the end nobody comes. Numbers over all of it move with its length. So what is
measured are the requests or jobs that *arrive* in the middle, whenever they end: the first
:data:`WARM_UP` and the last :data:`DRAIN` of the time from the first arrival to the last are cut.
Where nobody arrives in the rest (all come at once, or very few) there is no steady part, and the
window is the whole episode, from the first arrival to the last end. So it is where sessions answer
back: a step of rollouts has no steady part, and its tail is what counts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

WARM_UP, DRAIN = 0.2, 0.1
"""Shares of the time from the first arrival to the last that are cut at either end."""


@dataclass(frozen=True)
class Window:
    """A stretch of time, both ends included, seconds."""

    begin_s: float
    end_s: float

    @property
    def length_s(self) -> float:
        """How long it is."""
        return self.end_s - self.begin_s

    def holds(self, moments_s: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Tell which moments lie inside."""
        return (moments_s >= self.begin_s) & (moments_s <= self.end_s)

    def overlap_s(
        self, begin_s: NDArray[np.float64], end_s: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return how much of each span lies inside, seconds; NaN of a span without an end."""
        inside_s = np.minimum(end_s, self.end_s) - np.maximum(begin_s, self.begin_s)
        return np.maximum(inside_s, 0.0)

    def per_s(self, amount: float) -> float:
        """Return an amount per second of the window; 0 if it has no length."""
        return float(amount) / self.length_s if self.length_s > 0 else 0.0


def whole(arrival_s: NDArray[np.float64], finish_s: NDArray[np.float64]) -> Window:
    """Return the whole episode, from the first arrival to the last end: a step of rollouts is one.

    Args:
        arrival_s: of every request, at least one.
        finish_s: NaN for those that have not ended.
    """
    ends = [float(arrival_s.max()), *finish_s[np.isfinite(finish_s)].tolist()]
    return Window(float(arrival_s.min()), max(ends))


def steady(arrival_s: NDArray[np.float64], finish_s: NDArray[np.float64]) -> Window:
    """Return the steady part of an episode; see the module.

    Args:
        arrival_s: of every request or job, at least one.
        finish_s: NaN for those that have not ended.
    """
    first, last = float(arrival_s.min()), float(arrival_s.max())
    window = Window(first + WARM_UP * (last - first), last - DRAIN * (last - first))
    if last > first and window.holds(arrival_s).any():
        return window
    return whole(arrival_s, finish_s)
