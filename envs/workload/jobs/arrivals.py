"""When jobs arrive: a Poisson process whose rate follows the hour of the day and bursts.

The rate of each window is that of its hour times a gamma variate of mean 1, independent from window
to window: the numbers of arrivals per window are then negative binomial, which is what 10-minute
counts of Helios and hourly ones of Alibaba look like (docs/jobs.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FEWEST_PER_WINDOW = 1e-4
"""Jobs per window, in the mean: fewer would take minutes and gigabytes to draw."""


@dataclass(frozen=True)
class Arrivals:
    """A rate and how it changes.

    Attributes:
        rate_per_h: jobs per hour, in the mean.
        hours: relative rate of each hour of a day, brought to mean 1; empty: the same all day.
        burst_shape: shape of the gamma variate of each window, above 0; inf: none (Poisson).
        window_s: how long a variate holds.
        start_hour: hour at time 0, in [0, 24); -1: a random one.

    Raises:
        ValueError: naming the field, its value and the remedy.
    """

    rate_per_h: float = 10.0
    hours: tuple[float, ...] = ()
    burst_shape: float = math.inf
    window_s: float = 600.0
    start_hour: float = -1.0

    def __post_init__(self) -> None:
        for field, value in (("rate_per_h", self.rate_per_h), ("window_s", self.window_s)):
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{field} = {value!r} must be a finite number above 0")
        if self.rate_per_h / 3600.0 * self.window_s < FEWEST_PER_WINDOW:
            least = FEWEST_PER_WINDOW * 3600.0 / self.window_s
            raise ValueError(
                f"rate_per_h = {self.rate_per_h!r} is too low: at least {least:g} in windows of "
                f"{self.window_s:g} s; raise the rate, or the load that it follows from"
            )
        if not self.burst_shape > 0:
            raise ValueError(f"burst_shape = {self.burst_shape!r} must be above 0; inf: no bursts")
        if self.hours and (len(self.hours) != 24 or min(self.hours) < 0 or not sum(self.hours)):
            raise ValueError(f"hours = {self.hours!r} must be 24 numbers >= 0, not all 0")
        if not (self.start_hour == -1 or 0 <= self.start_hour < 24):
            raise ValueError(f"start_hour = {self.start_hour!r} must lie in [0, 24), or be -1")

    def sample(self, rng: np.random.Generator, n: int) -> NDArray[np.float64]:
        """Return ``n`` times in seconds, not decreasing; the first is 0."""
        due = np.cumsum(rng.standard_exponential(n))  # in operational time, one job per unit
        due -= due[0] if n else 0.0
        rate = self.rate_per_h / 3600.0
        if not self.hours and math.isinf(self.burst_shape):
            return due / rate
        return self._seconds(rng, due, rate)

    def _seconds(
        self, rng: np.random.Generator, due: NDArray[np.float64], rate: float
    ) -> NDArray[np.float64]:
        """Turn operational time into seconds: window by window at its own rate."""
        start_h = self.start_hour if self.start_hour >= 0 else 24.0 * rng.random()
        last = due[-1] if len(due) else 0.0
        parts, reached, first = [np.zeros(1)], 0.0, 0
        while reached <= last:
            count = 16 + int(1.2 * (last - reached) / (rate * self.window_s))
            windows = np.arange(first, first + count)
            factor = np.ones(count)
            if self.hours:
                hour = (start_h + windows * (self.window_s / 3600.0)).astype(np.int64) % 24
                factor = np.array(self.hours)[hour] * (24.0 / sum(self.hours))
            if not math.isinf(self.burst_shape):
                factor = factor * rng.gamma(self.burst_shape, 1.0 / self.burst_shape, count)
            done = reached + np.cumsum(factor) * (rate * self.window_s)
            parts.append(done)
            reached, first = done[-1], first + count
        done = np.concatenate(parts)
        at = np.searchsorted(done, due, side="right") - 1  # not np.interp: windows may be empty
        share = (due - done[at]) / (done[at + 1] - done[at])
        seconds = (at + share) * self.window_s
        return seconds - seconds[:1]
