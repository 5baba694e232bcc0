"""What the next interval brings: load predictors of Dynamo's planner.

Source: ai-dynamo/dynamo, components/src/dynamo/planner/core/load/predictors.py, commit 260b6ae.
Two of its four are here, the two that need a library in :mod:`.arima` and :mod:`.prophet`. Left
out: warming up on a trace of earlier days.
"""

from __future__ import annotations

import math
from typing import Literal, Protocol, get_args

import numpy as np

from .arima import Arima
from .prophet import ProphetTrend

Kind = Literal["constant", "kalman", "arima", "prophet"]


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


class Logged:
    """Another predictor on logarithms of 1 + value, the planner's ``load_predictor_log1p``."""

    def __init__(self, inner: Predictor) -> None:
        self.inner = inner

    def add(self, value: float) -> None:
        """Add the value of the interval that has ended."""
        self.inner.add(math.log1p(value))

    def next(self) -> float:
        """Return the forecast."""
        return math.expm1(self.inner.next())


def predictor(kind: Kind, step_s: float = 1.0, log1p: bool = False) -> Predictor:
    """Return a new predictor.

    Args:
        kind: which one.
        step_s: seconds between two values; only ``prophet`` asks.
        log1p: whether it sees logarithms; of no account to ``constant``.

    Raises:
        ValueError: unknown kind, naming those there are.
        ImportError: what it needs is not installed, naming the extra.
    """
    if kind not in get_args(Kind):
        raise ValueError(f"forecast = {kind!r}: use one of {', '.join(get_args(Kind))}")
    if kind == "constant":
        return Constant()
    if kind == "arima":
        return Arima(log1p)
    found: Predictor = Kalman() if kind == "kalman" else ProphetTrend(step_s)
    return Logged(found) if log1p else found
