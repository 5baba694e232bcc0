"""What the next interval brings: load predictors of Dynamo's planner.

Source: ai-dynamo/dynamo, components/src/dynamo/planner/core/load/predictors.py, commit 260b6ae.
Left out: ``arima``, its default, which fits orders and coefficients anew by a library
(pmdarima) that this package does not depend on, and ``prophet``.
"""

from __future__ import annotations

from typing import Literal, Protocol

import numpy as np

Kind = Literal["constant", "kalman"]


class Predictor(Protocol):
    """One number per interval, and a forecast of the next."""

    def add(self, value: float) -> None:
        """Add the value of the interval that has ended."""

    def next(self) -> float:
        """Return the forecast; 0 before the first value."""


class Constant:
    """The next interval is like the last."""

    def __init__(self) -> None:
        self.last = 0.0

    def add(self, value: float) -> None:
        """Add the value of the interval that has ended."""
        self.last = value

    def next(self) -> float:
        """Return the last value."""
        return self.last


class Kalman:
    """A level and a trend, filtered: ``x' = x + v``, ``v' = v``, observed with noise.

    Args:
        q_level, q_trend: variances that an interval adds to level and trend.
        r: variance of an observation. All three are the planner's defaults.
    """

    def __init__(self, q_level: float = 1.0, q_trend: float = 0.1, r: float = 10.0) -> None:
        self.step = np.array([[1.0, 1.0], [0.0, 1.0]])
        self.noise = np.diag([q_level, q_trend])
        self.r = r
        self.state = np.zeros(2)
        self.spread = 1000.0 * np.eye(2)
        self.seen = False

    def add(self, value: float) -> None:
        """Add the value of the interval that has ended; leading zeros are skipped."""
        if not self.seen:
            if value:
                self.state[:], self.seen = (value, 0.0), True
            return
        self.state = self.step @ self.state
        self.spread = self.step @ self.spread @ self.step.T + self.noise
        gain = self.spread[:, 0] / (self.spread[0, 0] + self.r)
        self.state = self.state + gain * (value - self.state[0])
        self.spread = self.spread - np.outer(gain, self.spread[0])

    def next(self) -> float:
        """Return the level one interval on, at least 0."""
        return max(0.0, float(self.state.sum()))


def predictor(kind: Kind) -> Predictor:
    """Return a new predictor.

    Raises:
        ValueError: unknown kind, naming those there are.
    """
    if kind == "constant":
        return Constant()
    if kind == "kalman":
        return Kalman()
    raise ValueError(f"predictor = {kind!r}: use 'constant' or 'kalman'; arima and prophet are out")
