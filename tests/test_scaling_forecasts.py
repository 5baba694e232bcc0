"""Dynamo's forecasts that need a library, against series whose next value is known."""

from __future__ import annotations

import math
import sys
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray

from gpuyard import baselines
from gpuyard.baselines.scaling import DynamoSLA, Profile, RoleSignals, Signals
from gpuyard.baselines.scaling.arima import Arima
from gpuyard.baselines.scaling.predictors import Kalman, Predictor, predictor
from gpuyard.baselines.scaling.prophet import ProphetTrend

H200 = Profile(40_000, 0.08, ((100, 0.01, 10_000),))


def fed(one: Predictor, values) -> Predictor:
    """Return the predictor after these values."""
    for value in values:
        one.add(float(value))
    return one


def autoregressive(phi: float, mean: float, count: int) -> NDArray[np.float64]:
    """Return a drawn AR(1) series."""
    values = [mean]
    for noise in np.random.default_rng(0).normal(0, 5, count - 1):
        values.append(mean + phi * (values[-1] - mean) + noise)
    return np.array(values)


def busy_day(count: int) -> NDArray[np.float64]:
    """Return requests in 180 s by Poisson, 90 to 810, over part of a day of 480 intervals."""
    rate = 450 + 360 * np.sin(2 * np.pi * np.arange(count) / 480)
    return np.random.default_rng(3).poisson(rate).astype(float)


# --- ARIMA beside its library


@pytest.fixture
def pmdarima():
    return pytest.importorskip("pmdarima", reason="needs gpuyard[forecast]")


def test_arima_continues_a_line(pmdarima) -> None:
    # a line is (0, 1, 0) with drift, so the source fits its logarithms: not exact any more
    assert fed(Arima(), 3.0 * np.arange(1, 61)).next() == pytest.approx(183, rel=1e-3)


def test_arima_of_logarithms_doubles_what_doubled(pmdarima) -> None:
    # log(1 + y) is a line: its drift is log 2
    doubling = fed(Arima(log1p=True), 2.0 ** np.arange(1, 21) - 1)
    assert doubling.next() == pytest.approx(2.0**21 - 1, rel=1e-5)


def test_arima_of_an_autoregressive_series_by_hand(pmdarima) -> None:
    values = autoregressive(0.7, 100.0, 121)
    one = fed(Arima(), values)
    found = one.next()
    assert one._model.order == (1, 0, 0)
    constant, phi, _ = one._model.params()
    assert found == pytest.approx(constant + phi * values[-1], rel=1e-9)
    assert phi == pytest.approx(0.7, abs=0.15)  # two standard errors of 121 values
    assert constant / (1 - phi) == pytest.approx(100, abs=3)


def test_arima_follows_a_sine(pmdarima) -> None:
    # y'' = -w^2 y is AR(2): any later value follows from the two before
    day = 1000 + 500 * np.sin(2 * np.pi * np.arange(241) / 480)
    assert fed(Arima(), day[:-1]).next() == pytest.approx(day[-1], rel=1e-6)


def test_arima_of_noise_is_the_mean_of_its_logarithms(pmdarima) -> None:
    # (0, 0, 0) collapses, and the best constant for log(1 + y) is its mean: 1 + y at the
    # geometric mean, which 2, 200 and their like tell from the arithmetic one
    values = np.exp(np.random.default_rng(2).normal(3, 1, 80)) - 1
    one = fed(Arima(), values)
    geometric = math.exp(np.log1p(values).mean()) - 1
    assert one.next() == pytest.approx(geometric, rel=1e-3)
    assert one._model.order == (0, 0, 0)
    assert geometric < 0.9 * values.mean()


def test_arima_searches_once_and_updates(pmdarima) -> None:
    values, threads = busy_day(60), pytest.importorskip("threadpoolctl")
    one, forecasts = fed(Arima(), values[:40]), []
    with threads.threadpool_limits(1, "blas"):
        direct = pmdarima.auto_arima(list(values[:40]), suppress_warnings=True)
        assert direct.order[0] or direct.order[2]  # no collapse: in raw values throughout
        for value in values[40:]:
            forecasts.append((one.next(), float(direct.predict(1)[0])))
            one.add(value)
            direct.update([value])
    assert one.next() == pytest.approx(float(direct.predict(1)[0]), rel=1e-9)
    ours, theirs = np.array(forecasts).T
    assert ours == pytest.approx(theirs, rel=1e-9)
    assert one._model.order == direct.order
    assert np.abs(ours - values[40:]).mean() < 4 * math.sqrt(values.mean())


def test_arima_of_a_cold_start_keeps_the_orders_of_five_values(pmdarima) -> None:
    # why the planner has a trace to warm up on: orders found in five values hold all day
    one = Arima()
    for value in autoregressive(0.7, 100.0, 40):
        one.add(value)
        found = one.next()
    assert one._model.order == (0, 0, 0)  # of 121 values at once it is (1, 0, 0), as above
    assert found == pytest.approx(100, abs=5)


# --- ARIMA's rules beside a library whose answers are known


class Library:
    """Stands for pmdarima: remembers what it is asked, answers what it is told."""

    def __init__(self, monkeypatch, answers, order=(1, 0, 0)) -> None:
        self.answers, self.order = list(answers), order
        self.fitted: list[list[float]] = []
        self.updated: list[list[float]] = []
        monkeypatch.setitem(sys.modules, "pmdarima", self)
        limits = SimpleNamespace(threadpool_limits=_Limits)
        monkeypatch.setitem(sys.modules, "threadpoolctl", limits)

    def auto_arima(self, values, **options) -> Library:
        self.fitted.append(values)
        if self.answers and self.answers[0] is None:
            self.answers.pop(0)
            raise ValueError("no fit")
        return self

    def update(self, values) -> None:
        self.updated.append(values)

    def predict(self, n_periods: int) -> list[float]:
        assert n_periods == 1
        return [self.answers.pop(0)]


class _Limits:
    def __init__(self, limits: int, user_api: str) -> None:
        assert (limits, user_api) == (1, "blas")

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error) -> None:
        pass


def test_arima_needs_five_values_that_differ(monkeypatch) -> None:
    library, one = Library(monkeypatch, [42.0, 43.0]), Arima()
    assert one.next() == 0
    assert fed(one, [0, math.nan, 0]).next() == 0  # idle at the begin: not remembered
    assert fed(one, [7, 8, 0, 9]).next() == 9
    assert not library.fitted
    assert fed(one, [math.inf]).next() == 42  # what is no number is idle
    assert library.fitted == [[7, 8, 0, 9, 0]]
    assert one.next() == 43  # asked again: nothing to learn
    assert library.updated == []
    same = fed(Arima(), [6.0] * 9)
    assert same.next() == 6
    assert len(library.fitted) == 1


def test_arima_learns_what_came_since_the_last_forecast(monkeypatch) -> None:
    library, one = Library(monkeypatch, [1.0, 2.0]), fed(Arima(), range(1, 7))
    assert one.next() == 1
    assert fed(one, [8, 9]).next() == 2
    assert (library.fitted, library.updated) == ([[1, 2, 3, 4, 5, 6]], [[8, 9]])


def test_arima_is_the_same_whatever_warnings_do(pmdarima) -> None:
    doubling = 2.0 ** np.arange(1, 21) - 1  # warns of a division by 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        strict = fed(Arima(log1p=True), doubling).next()
    assert strict == pytest.approx(2.0**21 - 1, rel=1e-5)


def test_arima_is_never_below_0(monkeypatch) -> None:
    Library(monkeypatch, [-3.0])
    assert fed(Arima(), range(9, 2, -1)).next() == 0


def test_arima_without_a_fit_is_the_last_value_and_tries_again(monkeypatch) -> None:
    library, one = Library(monkeypatch, [None, 5.5]), fed(Arima(), range(1, 7))
    assert one.next() == 6
    assert fed(one, [7]).next() == 5.5
    assert library.fitted == [[1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 6, 7]]


@pytest.mark.parametrize(("d", "log1p"), [(0, False), (1, False), (1, True)])
def test_arima_that_collapses_is_fitted_to_logarithms(monkeypatch, d: int, log1p: bool) -> None:
    library = Library(monkeypatch, [math.log(12), math.log(14)], order=(0, d, 0))
    one = fed(Arima(log1p), range(1, 7))
    assert one.next() == pytest.approx(11)
    logs = [math.log(value) for value in range(2, 8)]
    assert library.fitted[-1] == pytest.approx(logs)
    assert len(library.fitted) == (1 if log1p else 2)
    assert fed(one, [8]).next() == pytest.approx(13)
    assert library.updated == [[pytest.approx(math.log(9))]]


def test_arima_keeps_the_collapsed_fit_where_logarithms_have_none(monkeypatch) -> None:
    library, one = Library(monkeypatch, [10.0], order=(0, 1, 0)), fed(Arima(), range(1, 7))
    found = library.auto_arima

    def once(values, **options):
        if library.fitted:
            raise ValueError("no fit")
        return found(values, **options)

    one._search = once
    assert one.next() == 10


def test_dynamo_sla_forecasts_requests_of_a_period(monkeypatch) -> None:
    # 1, 2, ... 5 requests/s are 60, ... 300 in 60 s; the answer, 1,200, is 20 requests/s: 2P1D
    library = Library(monkeypatch, [1200.0, 3000.0, 150.0])
    rule = DynamoSLA(H200, itl_s=0.01, forecast="arima", corrected=False, period_s=60)
    role = RoleSignals(0, *((value,) for value in (0.0, 100.0, 0.0, 0.0, 0.0)))
    found = {}
    for second in range(1, 6):
        traffic = {"prompt_tokens": 3000.0 + second, "output_tokens": 150.0 + second}
        roles = {"prefill": role, "decode": role}
        now_s = 60.0 * second
        found = rule.desired(Signals(now_s, 30.0, roles, rate_per_s=float(second), **traffic))
    assert library.fitted[0] == [60, 120, 180, 240, 300]
    assert found == {"prefill": 2, "decode": 1}


# --- Prophet


@pytest.fixture
def prophet():
    return pytest.importorskip("prophet", reason="needs gpuyard[forecast]").Prophet


def test_prophet_continues_a_line(prophet) -> None:
    line = fed(ProphetTrend(180.0), 3.0 * np.arange(1, 70))
    assert line.next() == pytest.approx(210, rel=1e-6)
    assert line.next() == line.next()


def test_prophet_is_never_below_0(prophet) -> None:
    assert fed(ProphetTrend(180.0), [115, 95, 75, 55, 35, 15]).next() == 0  # the line's -5


def test_prophet_finds_the_day_in_two_days(prophet) -> None:
    # a window of 50 hours, a sine of 24: with two days to see, Prophet fits a daily season
    hours = 100 + 50 * np.sin(2 * np.pi * np.arange(61) / 24)
    assert fed(ProphetTrend(3600.0), hours[:-1]).next() == pytest.approx(hours[-1], rel=1e-3)


def test_prophet_beside_direct_use_of_its_library(prophet) -> None:
    import pandas as pd

    values = busy_day(80)
    times = pd.date_range("2024-01-01", periods=81, freq="180s")
    direct = prophet(uncertainty_samples=0)
    direct.fit(pd.DataFrame({"ds": times[30:80], "y": values[30:]}))  # the window of 50
    expected = direct.predict(pd.DataFrame({"ds": times[80:]}))["yhat"].iloc[0]
    found = fed(ProphetTrend(180.0), [0.0, 0.0, *values])  # idle at the begin: not remembered
    assert found.next() == pytest.approx(expected, rel=1e-9)


def test_prophet_needs_five_values(prophet) -> None:
    one = ProphetTrend(180.0)
    assert one.next() == 0
    assert fed(one, [0, math.nan]).next() == 0
    assert fed(one, [5, 0, 7, 8]).next() == 8
    idle = fed(ProphetTrend(180.0), [5, 0, 7, 8, 0])
    assert fed(one, [math.inf]).next() == idle.next()


# --- Logarithms, and what is missing


def test_kalman_of_logarithms_by_hand() -> None:
    # as tests/test_scaling_rules.py: 10 + 2 x 3001 / 2011 of values 10 and 12, here of logarithms
    first, second = math.log(10), math.log(12)
    expected = math.exp(first + (second - first) * 3001 / 2011) - 1
    assert fed(predictor("kalman", log1p=True), [0, 9, 11]).next() == pytest.approx(expected)
    assert isinstance(predictor("kalman"), Kalman)


@pytest.mark.parametrize(("kind", "library"), [("arima", "pmdarima"), ("prophet", "prophet")])
def test_a_library_that_is_missing_is_named_with_its_extra(monkeypatch, kind, library) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    words = rf"forecast = '{kind}' needs {library}: pip install 'gpuyard\[forecast\]'"
    with pytest.raises(ImportError, match=words):
        DynamoSLA(H200, forecast=kind)
    with pytest.raises(ImportError, match=words):
        baselines.make(f"compose:scaling/dynamo-sla?forecast={kind}")
