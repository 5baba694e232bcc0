"""What a fit found, as a table and as a ``[[replicas]]`` table for scenarios."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuyard.envs.perf.serving.calibrate import CONSTANTS, Fit
from gpuyard.envs.perf.serving.closed_loop import Measurement, ttft_flags
from gpuyard.envs.scenario.write import toml
from gpuyard.evaluation.tables import text

DIGITS = 6


def report(fit: Fit, measured: Sequence[Measurement]) -> str:
    """Return the constants with standard errors, and how far the model is off before and after."""
    constants = [["constant", "fitted", "standard error"], *_constants(fit)]
    errors = [["error of the model", "times", "median", "P90", "worst"], *_errors(fit, measured)]
    kept = "\n".join(f"{name} stays as it is: {why}" for name, why in fit.kept.items())
    return "\n\n".join(part for part in (text(constants), kept, text(errors)) if part)


def replica_toml(fit: Fit, row: dict[str, Any], report: str, command: str, source: str) -> str:
    """Return the replica as TOML, below a comment that says where it is from.

    Args:
        fit: the constants.
        row: the ``[[replicas]]`` table that they were fitted for.
        report: what :func:`report` returned.
        command: that was typed.
        source: file of the measurements.
    """
    own = fit.deployment.calibration
    assert own is not None
    table = {name: round(getattr(own, name), DIGITS) for name in ("prefill", "decode", "step_ms")}
    frontend_ms = round(fit.deployment.frontend_ms, DIGITS)
    replica = {**row, "frontend_ms": frontend_ms, "calibration": {**table, "source": source}}
    said = "\n".join(f"# {line}".rstrip() for line in [command, "", *report.splitlines()])
    return f"{said}\n\n{toml({'replicas': [replica]})}"


def _constants(fit: Fit) -> Iterator[list[str]]:
    own = fit.deployment.calibration
    for name in CONSTANTS:
        if name in fit.errors:
            value = getattr(fit.deployment if name == "frontend_ms" else own, name)
            error = fit.errors[name]
            yield [
                name,
                f"{value:.4g}",
                f"{error:.2g}" if np.isfinite(error) else "no row to spare",
            ]


def _errors(fit: Fit, measured: Sequence[Measurement]) -> Iterator[list[str]]:
    first = ttft_flags(measured) > 0
    for name, mask in (("TTFT", first), ("ITL", ~first)):
        for when, errors in (("before", fit.before), ("after", fit.after)):
            if mask.any():
                yield [f"{name} {when}", str(mask.sum()), *_quantiles(errors[mask])]


def _quantiles(errors: NDArray[np.float64]) -> list[str]:
    size = 100 * np.abs(errors)
    return [f"{q:.1f} %" for q in (np.median(size), np.quantile(size, 0.9), size.max())]
