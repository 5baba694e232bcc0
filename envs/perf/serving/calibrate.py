"""Fits a replica's own constants to measured times: linear least squares.

The times of a closed loop (:mod:`.closed_loop`) are linear in the constants (:mod:`.calibration`)
but where the host takes over from the GPU, so that least squares of the relative errors over their
slopes, repeated, ends after two or three rounds (Gauss-Newton). A constant that the measurements do
not tell from the others stays as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .calibration import Calibration, calibrated
from .closed_loop import Measurement, check, observed, times_s, ttft_flags
from .deployment import MOST_FRONTEND_MS, Deployment
from .tabulate import tabulate

CONSTANTS = ("frontend_ms", "decode", "prefill", "step_ms")
"""What is fitted. Of two that the measurements do not tell apart the first stays as it is."""
TOLD_APART = 0.01
"""A constant must move the times by this much (rms, relative) beyond what the others can, where it
doubles, or grows by the model's shortest step."""
MOST_ROUNDS = 20


@dataclass(frozen=True)
class Fit:
    """Fitted constants.

    Attributes:
        deployment: the replica with them.
        errors: standard error of each constant that was fitted; nan without rows to spare.
        kept: why each other constant stayed as it was.
        before: relative errors of the model without them, predicted over measured minus 1.
        after: and with them; both in the order of :func:`observed`.
    """

    deployment: Deployment
    errors: dict[str, float]
    kept: dict[str, str]
    before: NDArray[np.float64]
    after: NDArray[np.float64]


def fit(deployment: Deployment, measured: Sequence[Measurement]) -> Fit:
    """Fit a replica's own constants.

    Args:
        deployment: the replica as the model has it; ``frontend_ms`` is where the fit starts.
        measured: at least one time.

    Raises:
        ValueError: a measurement that such a replica cannot have made, or none that tells anything.
    """
    for row in measured:
        check(deployment, row)
    times = np.array(list(observed(measured)))
    if not len(times):
        raise ValueError(
            "nothing to fit: give ITL of any concurrency, or TTFT of concurrency 1 (that of more "
            "depends on how the clients start)"
        )
    model = _Model(deployment, measured, times)
    kept: dict[str, str] = {}
    while True:
        free = _told_apart(model, kept)
        found = _least_squares(model, free)
        bad = [name for name in free if not model.allowed(name, found[name])]
        if not bad:
            break
        kept[bad[0]] = f"the fit gives {found[bad[0]]:.3g}, which cannot be"
    errors = _standard_errors(model, found, free)
    return Fit(model.replica(found), errors, kept, model.errors(model.start), model.errors(found))


class _Model:
    """Times as a function of the constants.

    ``start`` has the constants as the model has them, ``units`` what each is measured in where
    :data:`TOLD_APART` asks whether it moves anything.
    """

    def __init__(
        self, deployment: Deployment, measured: Sequence[Measurement], times: NDArray[np.float64]
    ) -> None:
        self._deployment = replace(deployment, calibration=None)
        self._table = tabulate(self._deployment)
        self._measured, self._times = measured, times
        shortest_ms = 1e3 * float(self._table.linear_s[1])
        self._least = {"frontend_ms": 0.0, "step_ms": -shortest_ms}
        self.start = {
            "frontend_ms": deployment.frontend_ms,
            "decode": 1.0,
            "prefill": 1.0,
            "step_ms": 0.0,
        }
        self.units = {"frontend_ms": shortest_ms, "step_ms": shortest_ms}

    def allowed(self, name: str, value: float) -> bool:
        """Tell whether a constant may have this value."""
        least = self._least.get(name, 0.0)
        return value >= least if name == "frontend_ms" else value > least

    def replica(self, constants: dict[str, float]) -> Deployment:
        """Return the replica with these constants."""
        own = dict(constants)
        frontend_ms = min(own.pop("frontend_ms"), MOST_FRONTEND_MS)
        return replace(self._deployment, frontend_ms=frontend_ms, calibration=_calibration(own))

    def errors(self, constants: dict[str, float]) -> NDArray[np.float64]:
        """Return relative errors: predicted over measured minus 1."""
        own = dict(constants)
        offset = 1e-3 * (own.pop("frontend_ms") - self._deployment.frontend_ms)
        return (self._steps(own) + offset * ttft_flags(self._measured)) / self._times - 1

    def _steps(self, own: dict[str, float]) -> NDArray[np.float64]:
        table = calibrated(self._table, _calibration(own), self._deployment.gpu.name)
        return times_s(table, self._deployment, self._measured)

    def slopes(self, constants: dict[str, float], free: Sequence[str]) -> NDArray[np.float64]:
        """Return by how much each free constant moves the relative errors, per unit of it."""
        here, columns = self.errors(constants), []
        for name in free:
            step = 1e-3 * self.units.get(name, 1.0)
            columns.append((self.errors({**constants, name: constants[name] + step}) - here) / step)
        return np.array(columns).T.reshape(len(here), len(free))


def _calibration(own: dict[str, float]) -> Calibration:
    return Calibration(own["prefill"], own["decode"], own["step_ms"])


def _told_apart(model: _Model, kept: dict[str, str]) -> list[str]:
    """Return the constants that the measurements tell; add to ``kept`` why others stay."""
    free = [name for name in CONSTANTS if name not in kept]
    while free:
        units = np.array([model.units.get(name, 1.0) for name in free])
        slopes = model.slopes(model.start, free) * units
        weak = [n for n, name in enumerate(free) if _own_part(slopes, n) < TOLD_APART]
        if not weak:
            return free
        moves = _rms(slopes[:, weak[0]]) >= TOLD_APART
        kept[free.pop(weak[0])] = (
            "the measurements do not tell it from the others"
            if moves
            else "no measured time depends on it"
        )
    raise ValueError(
        f"the measurements tell none of {', '.join(CONSTANTS)}; measure two or more prompt lengths "
        "and concurrencies"
    )


def _own_part(slopes: NDArray[np.float64], column: int) -> float:
    """Return what of a column no sum of the others makes (rms)."""
    others, own = np.delete(slopes, column, axis=1), slopes[:, column]
    return _rms(own - others @ np.linalg.lstsq(others, own, rcond=None)[0])


def _rms(values: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(values**2)))


def _least_squares(model: _Model, free: Sequence[str]) -> dict[str, float]:
    """Return all constants, the free ones by least squares of the relative errors."""
    found = dict(model.start)
    for _ in range(MOST_ROUNDS):
        slopes = model.slopes(found, free)
        change = np.linalg.lstsq(slopes, -model.errors(found), rcond=None)[0]
        for name, value in zip(free, change, strict=True):
            found[name] += float(value)
        if np.all(np.abs(change) < 1e-9) or not all(model.allowed(n, found[n]) for n in free):
            break
    return found


def _standard_errors(
    model: _Model, found: dict[str, float], free: Sequence[str]
) -> dict[str, float]:
    """Return the usual standard errors of least squares: residual variance, inverse of A'A."""
    slopes, residuals = model.slopes(found, free), model.errors(found)
    spare = len(residuals) - len(free)
    if spare < 1:
        return dict.fromkeys(free, float("nan"))
    variance = float(residuals @ residuals) / spare
    covariance = variance * np.linalg.pinv(slopes.T @ slopes)
    return dict(zip(free, map(float, np.sqrt(np.diag(covariance))), strict=True))
