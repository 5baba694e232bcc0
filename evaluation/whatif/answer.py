"""Which fleet meets the objective, and how sure that is."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gpuyard.envs.scenario.provenance import DECIDING, provenance

from ..metrics import METRICS, metric
from ..rollout import Rollout
from ..statistics import mean_interval
from .fleets import Fleet

SHORT = {"slo": "slo_attainment", "ttft": "ttft_p99_s", "jct": "jct_mean_s", "wait": "jwt_mean_s"}
"""Names for those who type them."""

MET, OPEN, MISSED = "met", "open", "missed"
"""The whole 95 % interval keeps the objective; it straddles it; neither."""


@dataclass(frozen=True)
class Objective:
    """A bound on the mean of a metric: at least it where more is better, else at most."""

    key: str
    bound: float

    def __str__(self) -> str:
        sign = ">=" if metric(self.key).higher_is_better else "<="
        return f"{self.key} {sign} {self.bound:g}"

    def verdict(self, played: Rollout) -> str:
        """Return :data:`MET`, :data:`OPEN` or :data:`MISSED`.

        An episode without the number, such as one in which nothing finished, misses it.
        """
        values = played.metrics.get(self.key, np.array([np.nan]))
        if np.isnan(values).any():
            return MISSED
        interval, sign = mean_interval(values), 1.0 if metric(self.key).higher_is_better else -1.0
        low, high = sorted((sign * interval.low, sign * interval.high))
        if low >= sign * self.bound:
            return MET
        return OPEN if high >= sign * self.bound else MISSED


def objectives(text: str) -> list[Objective]:
    """Return the objectives of ``slo=0.99,ttft=0.5``; of no text none.

    Raises:
        ValueError: a metric is unknown or has no better direction, or its bound is no number.
    """
    found = []
    for part in filter(None, text.split(",")):
        name, _, bound = part.partition("=")
        key = SHORT.get(name.strip(), name.strip())
        if metric(key).higher_is_better is None:
            known = [m.key for m in METRICS if m.higher_is_better is not None]
            raise ValueError(f"--objective {part!r}: use one of {', '.join([*SHORT, *known])}")
        try:
            found.append(Objective(key, float(bound)))
        except ValueError:
            raise ValueError(f"--objective {part!r}: give a number, for example slo=0.99") from None
        if not math.isfinite(found[-1].bound):
            raise ValueError(f"--objective {part!r}: give a finite number")
        if metric(key).scale == 100.0 and not 0 <= found[-1].bound <= 1:
            raise ValueError(f"--objective {part!r}: {key} is a share, from 0 to 1")
    return found


@dataclass(frozen=True)
class Row:
    """A fleet under a policy."""

    fleet: Fleet
    played: Rollout
    verdict: str = ""

    @property
    def name(self) -> str:
        """Return what it is called in a sentence."""
        price = f", ${self.fleet.price_per_h:.2f}/h" if self.fleet.price_per_h else ""
        return f"{self.fleet.world.name} under {self.played.policy}{price}"


def rows(
    fleets: Sequence[Fleet], played: Sequence[Rollout], wanted: Sequence[Objective]
) -> list[Row]:
    """Return a row per rollout: its verdict is that of the objective that it keeps least."""
    by_name = {fleet.world.name: fleet for fleet in fleets}
    found = []
    for rollout in played:
        verdicts = [objective.verdict(rollout) for objective in wanted]
        worst = max(verdicts, key=(MET, OPEN, MISSED).index, default="")
        found.append(Row(by_name[rollout.scenario], rollout, worst))
    return found


def answer(found: Sequence[Row], wanted: Sequence[Objective]) -> list[str]:
    """Return sentences: the cheapest fleet that meets the objective, and what may be cheaper."""
    if not wanted:
        return ["No objective was given (--objective slo=0.99; for jobs jct or wait: wait=3600)."]
    said = " and ".join(map(str, wanted))
    key, seeds = wanted[0].key, len(found[0].played.seeds)
    met = [row for row in found if row.verdict == MET]
    best = min(met, key=lambda row: _order(row, key), default=None)
    lines = [f"No fleet meets {said} beyond its 95 % interval."]
    if best is not None:
        lines = [f"Cheapest fleet that meets {said}: {best.name} ({reached(best, key)})."]
    cheaper = [
        row
        for row in found
        if row.verdict == OPEN and (best is None or row.fleet.price_per_h < best.fleet.price_per_h)
    ]
    if cheaper:
        names = "; ".join(f"{row.name} ({reached(row, key)})" for row in cheaper)
        lines.append(
            f"Uncertain, as the interval over {seeds} seeds straddles the objective: {names}. "
            f"--seeds {4 * seeds} halves it."
        )
    elif best is None:
        nearest = min(found, key=lambda row: _distance(row, wanted[0]))
        lines.append(f"Nearest: {nearest.name} ({reached(nearest, key)}).")
    return lines


def _order(row: Row, key: str) -> tuple[float, float]:
    """Return what the best row is least of: its price, then how far the objective's metric is."""
    sign = -1.0 if metric(key).higher_is_better else 1.0
    return row.fleet.price_per_h, sign * float(row.played.metrics[key].mean())


def _distance(row: Row, objective: Objective) -> float:
    values = row.played.metrics.get(objective.key, np.array([np.nan]))
    return (
        abs(float(np.nanmean(values)) - objective.bound) if np.isfinite(values).any() else math.inf
    )


def reached(row: Row, key: str) -> str:
    """Return the mean and interval of a metric, with its heading."""
    values, shown = row.played.metrics.get(key, np.array([np.nan])), metric(key)
    if np.isnan(values).all():
        return f"no {shown.label}"
    interval = mean_interval(values)
    digits = shown.digits + 1
    mean, half = interval.mean * shown.scale, interval.half_width * shown.scale
    spread = f" ± {half:.{digits}f}" if math.isfinite(half) else ""
    return f"{shown.label} {mean:.{digits}f}{spread}"


def accuracy(fleets: Sequence[Fleet]) -> list[str]:
    """Return sentences on how far the constants behind the rows are to be trusted."""
    found = {fact for fleet in fleets for fact in provenance(fleet.scenario)}
    counts = Counter(fact.confidence for fact in found)
    said = ", ".join(f"{number} {name}" for name, number in counts.most_common())
    lines = [
        f"Computed from {len(found)} constants: {said}. The intervals are of the traffic drawn, "
        "not of these."
    ]
    weak = [
        f"{fact.subject} {fact.what} (from {fact.of})"
        for fact in sorted(found)
        if fact.confidence == "analogy" and fact.what.split(" ")[0] in (*DECIDING, "training")
    ]
    if weak:
        lines.append(f"By analogy, so expect 30 % error: {', '.join(weak)}.")
    return lines
