"""The planner's forecast by Prophet: a trend that bends, and seasons where the window holds any.

Source: ai-dynamo/dynamo, components/src/dynamo/planner/core/load/predictors.py, commit 260b6ae;
the model is Taylor and Letham, Forecasting at Scale, Am. Stat. 72(1), 2018, by its library.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from datetime import datetime, timedelta

from .arima import LEAST_POINTS

WINDOW = 50
"""Default of ``prophet_window_size``."""
BEGIN = datetime(2024, 1, 1)
"""When the first value is said to be from."""


class ProphetTrend:
    """Prophet with its defaults on the last values, fitted anew for each forecast.

    Prophet has a daily season where its window holds two days: at the planner's 180 s it holds
    2.5 hours, so that only the trend is left.

    Args:
        step_s: seconds between two values.
        window: values that are kept.

    Raises:
        ImportError: prophet is not installed.
    """

    def __init__(self, step_s: float, window: int = WINDOW) -> None:
        _quiet()
        try:
            import pandas as pd
            from prophet import Prophet
        except ImportError as error:
            raise ImportError(
                "forecast = 'prophet' needs prophet: pip install 'gpuyard[forecast]'"
            ) from error
        self._model, self._table = Prophet, pd.DataFrame
        self._step = timedelta(seconds=step_s)
        self._values: deque[float] = deque(maxlen=window)
        self._count = 0

    def add(self, value: float) -> None:
        """Add the value of the interval that has ended; leading zeros are skipped."""
        value = value if math.isfinite(value) else 0.0
        if value or self._count:
            self._values.append(value)
            self._count += 1

    def next(self) -> float:
        """Return the forecast, at least 0."""
        if len(self._values) < LEAST_POINTS:
            return self._values[-1] if self._values else 0.0
        first = self._count - len(self._values)
        times = [BEGIN + step * self._step for step in range(first, self._count + 1)]
        # samples of the uncertainty, which nobody reads, would be drawn from numpy's global state
        model = self._model(uncertainty_samples=0)
        model.fit(self._table({"ds": times[:-1], "y": list(self._values)}))
        found = model.predict(self._table({"ds": times[-1:]}))
        return max(0.0, float(found["yhat"].iloc[0]))


def _quiet() -> None:
    """Silence that there is no plotly, said at the import, and the two lines of every fit."""
    logging.getLogger("prophet.plot").setLevel(logging.CRITICAL)
    cmdstan = logging.getLogger("cmdstanpy")
    cmdstan.setLevel(logging.WARNING)
    if not cmdstan.handlers:  # without any, it would add its own and begin to tell all
        cmdstan.addHandler(logging.NullHandler())
