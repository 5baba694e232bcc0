"""The planner's default forecast: an ARIMA whose orders are searched once, then updated.

Source: ai-dynamo/dynamo, components/src/dynamo/planner/core/load/predictors.py, commit 260b6ae;
search and fit are pmdarima's ``auto_arima`` (Hyndman and Khandakar, J. Stat. Softw. 27(3), 2008)
with its defaults, as there.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

LEAST_POINTS = 5
"""Values below which the next is like the last."""


class Arima:
    """ARIMA on all values since the first that is not 0; there is no window.

    Below 5 values the forecast is the last one, of equal values it is that value. The first fit
    chooses orders and coefficients; afterwards new values only move the coefficients. If the
    orders chosen are (0, d, 0), which neither remembers nor smooths, the logarithms of 1 + value
    are fitted instead. Where a fit fails, the forecast is the last value.

    Args:
        log1p: whether to fit those logarithms from the start.

    Raises:
        ImportError: pmdarima is not installed.
    """

    def __init__(self, log1p: bool = False) -> None:
        try:
            import pmdarima
            import threadpoolctl
        except ImportError as error:
            raise ImportError(
                "forecast = 'arima' needs pmdarima: pip install 'gpuyard[forecast]'"
            ) from error
        self._search = pmdarima.auto_arima
        self._limits = threadpoolctl.threadpool_limits
        self._log = log1p
        self._values: list[float] = []
        self._fresh: list[float] = []  # what the model has not seen
        self._model: Any = None

    def add(self, value: float) -> None:
        """Add the value of the interval that has ended; leading zeros are skipped."""
        value = value if math.isfinite(value) else 0.0
        if value or self._values:
            self._values.append(value)
            self._fresh.append(value)

    def next(self) -> float:
        """Return the forecast, at least 0."""
        if len(self._values) < LEAST_POINTS:
            return self._values[-1] if self._values else 0.0
        if len(set(self._values)) == 1:
            return self._values[0]
        try:
            # matrices of a few rows: with threads, they cost 10 times the time
            with self._limits(1, "blas"), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # else a caller's "error" would decide the forecast
                self._learn()
                found = float(self._model.predict(n_periods=1)[0])
            return max(0.0, math.expm1(found) if self._log else found)
        except Exception:  # of any kind, as the source does: the library names none
            return self._values[-1]
        finally:
            self._fresh = []

    def _learn(self) -> None:
        """Fit what has been added: orders too the first time, coefficients afterwards."""
        if self._model is not None:
            if self._fresh:
                self._model.update(self._scaled(self._fresh))
            return
        self._model = self._fit()
        p, _, q = self._model.order
        if p or q or self._log:
            return
        raw, self._log = self._model, True
        try:
            self._model = self._fit()
        except Exception:  # the source keeps the first fit
            self._model, self._log = raw, False

    def _fit(self) -> Any:
        """Return the model with the best orders."""
        values = self._scaled(self._values)
        return self._search(values, suppress_warnings=True, error_action="ignore")

    def _scaled(self, values: list[float]) -> list[float]:
        """Return values as the model sees them."""
        return [math.log1p(value) for value in values] if self._log else list(values)
