"""Fits a replica's own constants to measured times: linear least squares.

In a closed loop of N clients, each with prompts of p tokens and answers of o, the model says

    TTFT = frontend + sum over chunks of step(0, chunk)                              N = 1
    ITL  = step(N, N (p + o/2)) + (N - 1)/o * sum over chunks of
           [step(N - 1, (N - 1)(p + o/2), chunk) - step(N - 1, (N - 1)(p + o/2))]

as each answer lasts while those of N - 1 others begin. Source: perf_models section 3.8 of the
reference. The TTFT of more than one client depends on how they start, and is not used.

Times are linear in the constants (:mod:`.calibration`) but where the host takes over from the GPU,
so that least squares (relative errors) over the slopes, repeated, ends after two or three rounds.
A constant that the measurements do not tell from the others stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .calibration import Calibration, calibrated
from .cost_table import CostTable
from .deployment import MOST_FRONTEND_MS, Deployment
from .iteration import Chunk, step_s
from .kv_capacity import kv_blocks
from .kv_groups import kv_groups
from .tabulate import tabulate

CONSTANTS = ("frontend_ms", "decode", "prefill", "step_ms")
"""What is fitted. Of two that the measurements do not tell apart the first stays as it is."""
TOLD_APART = 0.01
"""A constant must move the times by this much (rms, relative) beyond what the others can, where it
doubles, or grows by the model's shortest step."""
MOST_ROUNDS = 20


@dataclass(frozen=True)
class Measurement:
    """Times of one closed loop.

    Attributes:
        concurrency: clients, each with one request at a time.
        prompt_tokens: of a request.
        output_tokens: of a request, 2 or more.
        ttft_s: to the first token, s; nan: not measured.
        itl_s: mean between two tokens, s; nan: not measured.
    """

    concurrency: int
    prompt_tokens: int
    output_tokens: int
    ttft_s: float = np.nan
    itl_s: float = np.nan


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


def check(deployment: Deployment, row: Measurement) -> None:
    """Refuse a closed loop that the replica does not run as a whole.

    Raises:
        ValueError: naming the value and what is allowed.
    """
    most = deployment.max_num_seqs
    if not 1 <= row.concurrency <= most:
        raise ValueError(
            f"concurrency = {row.concurrency}: the replica runs 1 to max_num_seqs = {most} requests"
        )
    needed = kv_groups(deployment).blocks_of(row.prompt_tokens + row.output_tokens)
    if (fits := kv_blocks(deployment) // needed) < row.concurrency:
        raise ValueError(
            f"concurrency = {row.concurrency}: the KV cache of the replica holds {fits:.0f} "
            f"requests of {row.prompt_tokens} and {row.output_tokens} tokens"
        )


def observed(measured: Sequence[Measurement]) -> Iterator[float]:
    """Yield the times that are fitted, s: each row's TTFT if usable, then its ITL if given."""
    for row in measured:
        if row.concurrency == 1 and np.isfinite(row.ttft_s):
            yield row.ttft_s
        if np.isfinite(row.itl_s):
            yield row.itl_s


def predicted(deployment: Deployment, measured: Sequence[Measurement]) -> NDArray[np.float64]:
    """Return the model's times in the order of :func:`observed`, s."""
    return _predicted(tabulate(deployment), deployment, measured)


def _predicted(
    table: CostTable, d: Deployment, measured: Sequence[Measurement]
) -> NDArray[np.float64]:
    """Return times in the order of :func:`observed`, whichever costs the replica has."""
    times: list[float] = []
    for row in measured:
        if row.concurrency == 1 and np.isfinite(row.ttft_s):
            times.append(d.frontend_ms * 1e-3 + _prefill_s(table, d, row, 0))
        if np.isfinite(row.itl_s):
            others = row.concurrency - 1
            context = _context(row, row.concurrency)
            seconds = step_s(table, row.concurrency, context)
            if others:
                seconds += others / row.output_tokens * _prefill_s(table, d, row, others)
            times.append(seconds)
    return np.array(times)


def _context(row: Measurement, sequences: int) -> int:
    """Return the mean cached tokens of ``sequences`` answers under way."""
    return round(sequences * (row.prompt_tokens + row.output_tokens / 2))


def _prefill_s(table: CostTable, d: Deployment, row: Measurement, others: int) -> float:
    """Return the seconds that one prompt takes, or adds to the steps of ``others``."""
    context, total_s = _context(row, others), 0.0
    alone_s = step_s(table, others, context) if others else 0.0
    for chunk in _chunks(row.prompt_tokens, d.max_num_batched_tokens - others):
        ends = sum(chunk) == row.prompt_tokens
        total_s += step_s(table, others, context, [chunk], others + ends) - alone_s
    return total_s


def _chunks(prompt_tokens: int, budget: int) -> Iterator[Chunk]:
    """Yield a prompt's chunks: new tokens, tokens before them."""
    for start in range(0, prompt_tokens, budget):
        yield min(budget, prompt_tokens - start), start


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
        return replace(
            self._deployment, frontend_ms=frontend_ms, calibration=Calibration(**own)
        )

    def errors(self, constants: dict[str, float]) -> NDArray[np.float64]:
        """Return relative errors: predicted over measured minus 1."""
        own = dict(constants)
        offset = 1e-3 * (own.pop("frontend_ms") - self._deployment.frontend_ms)
        return (self._steps(own) + offset * self._ttft()) / self._times - 1

    def _steps(self, own: dict[str, float]) -> NDArray[np.float64]:
        table = calibrated(self._table, Calibration(**own), self._deployment.gpu.name)
        return _predicted(table, self._deployment, self._measured)

    def _ttft(self) -> NDArray[np.float64]:
        """Return 1 for each time that is a TTFT, else 0."""
        flags: list[float] = []
        for row in self._measured:
            flags += [1.0] if row.concurrency == 1 and np.isfinite(row.ttft_s) else []
            flags += [0.0] if np.isfinite(row.itl_s) else []
        return np.array(flags)

    def slopes(self, constants: dict[str, float], free: Sequence[str]) -> NDArray[np.float64]:
        """Return by how much each free constant moves the relative errors, per unit of it."""
        here, columns = self.errors(constants), []
        for name in free:
            step = 1e-3 * self.units.get(name, 1.0)
            columns.append((self.errors({**constants, name: constants[name] + step}) - here) / step)
        return np.array(columns).T.reshape(len(here), len(free))


def _told_apart(model: _Model, kept: dict[str, str]) -> list[str]:
    """Return the constants that the measurements tell; add to ``kept`` why others stay."""
    free = [name for name in CONSTANTS if name not in kept]
    while free:
        slopes = model.slopes(model.start, free)
        slopes = slopes * np.array([model.units.get(name, 1.0) for name in free])
        for column, name in enumerate(free):
            others = np.delete(slopes, column, axis=1)
            own = slopes[:, column]
            if others.shape[1]:
                own = own - others @ np.linalg.lstsq(others, own, rcond=None)[0]
            if np.sqrt(np.mean(own**2)) < TOLD_APART:
                break
        else:
            return free
        moves = np.sqrt(np.mean(slopes[:, column] ** 2)) >= TOLD_APART
        kept[name] = (
            "the measurements do not tell it from the others" if moves else "it moves no time"
        )
        free.remove(name)
    raise ValueError(
        "the measurements tell none of "
        + ", ".join(CONSTANTS)
        + "; measure two or more prompt lengths and concurrencies"
    )


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
