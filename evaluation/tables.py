"""Results as plain text, Markdown and CSV."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .classes import parse
from .metrics import METRICS, metric
from .rollout import Rollout
from .statistics import mean_interval, paired_interval

Table = list[list[str]]
"""Rows of cells, the heading first."""

CSV_HEAD = ("scenario", "policy", "seed")


def summary(rollouts: Sequence[Rollout], metrics: Sequence[str] = ()) -> Table:
    """Return one row per policy, best reward first: the mean of each metric ± 95 % interval.

    Args:
        rollouts: policies on one scenario.
        metrics: keys to show; all known ones that were measured by default.
    """
    keys = metrics or [m.key for m in METRICS if m.key in rollouts[0].metrics]
    rows = [["policy", *(metric(key).label for key in keys)]]
    for rollout in sorted(rollouts, key=lambda r: -r.metrics["reward"].mean()):
        rows.append([rollout.policy, *(cell(rollout, key) for key in keys)])
    return rows


def by_class(rollouts: Sequence[Rollout]) -> Table:
    """Return one row per policy and class (:mod:`.classes`), best reward first.

    Only the heading where nothing is told apart.
    """
    parsed = [parse(key) for key in dict.fromkeys(k for r in rollouts for k in r.metrics)]
    names = list(dict.fromkeys(name for name, which in parsed if which))
    which_ones = list(dict.fromkeys(which for _, which in parsed if which))
    rows = [["policy", "class", *(metric(name).label for name in names)]]
    for rollout in sorted(rollouts, key=lambda r: -r.metrics["reward"].mean()):
        for which in which_ones:
            cells = (cell(rollout, f"{name}/{which}") for name in names)
            rows.append([rollout.policy, which, *cells])
    return rows


def comparison(rollouts: Sequence[Rollout], policy: str, metrics: Sequence[str]) -> Table:
    """Return how much better ``policy`` is than each other one, seed by seed.

    Positive is better, whatever the metric's direction. A star marks a difference whose 95 %
    interval excludes 0.
    """
    ours = next(r for r in rollouts if r.policy == policy)
    rows = [[f"{policy} against", *(metric(key).label for key in metrics)]]
    for rollout in sorted(rollouts, key=lambda r: -r.metrics["reward"].mean()):
        if rollout.policy != policy:
            rows.append([rollout.policy, *(gain(ours, rollout, key) for key in metrics)])
    return rows


def text(table: Table) -> str:
    """Return the table as aligned plain text."""
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    lines = [
        "  ".join(
            [row[0].ljust(widths[0])]
            + [c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True)]
        )
        for row in table
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def markdown(table: Table) -> str:
    """Return the table as Markdown, numbers to the right."""
    lines = ["| " + " | ".join(row) + " |" for row in table]
    rule = "| --- |" + " ---: |" * (len(table[0]) - 1)
    return "\n".join([lines[0], rule, *lines[1:]])


def write_csv(rollouts: Sequence[Rollout], path: Path) -> None:
    """Write one row per scenario, policy and seed, with every metric."""
    keys = list(dict.fromkeys(key for rollout in rollouts for key in rollout.metrics))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*CSV_HEAD, *keys])
        for rollout in rollouts:
            for i, seed in enumerate(rollout.seeds):
                values = [
                    repr(float(rollout.metrics[k][i])) if k in rollout.metrics else "" for k in keys
                ]
                writer.writerow([rollout.scenario, rollout.policy, int(seed), *values])


def read_csv(path: Path) -> list[Rollout]:
    """Read back what :func:`write_csv` wrote; times of single requests and jobs are not in it."""
    groups: dict[tuple[str, str], list[dict[str, str]]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            groups.setdefault((row["scenario"], row["policy"]), []).append(row)
    return [
        Rollout(
            policy,
            scenario,
            np.array([int(row["seed"]) for row in rows]),
            {
                key: np.array([float(row[key]) for row in rows])
                for key in rows[0]
                if key not in CSV_HEAD and rows[0][key] != ""
            },
        )
        for (scenario, policy), rows in groups.items()
    ]


def cell(rollout: Rollout, key: str) -> str:
    """Return the mean of a metric ± its 95 % interval, as its heading has it."""
    values = rollout.metrics.get(key, np.zeros(0))
    if np.isnan(values).all():
        return "-"
    shown, interval = metric(key), mean_interval(values)
    mean = f"{interval.mean * shown.scale:.{shown.digits}f}"
    if not np.isfinite(interval.half_width):
        return mean
    return f"{mean} ± {interval.half_width * shown.scale:.{shown.digits}f}"


def gain(ours: Rollout, theirs: Rollout, key: str) -> str:
    """Return how much better one policy is than another on the same seeds, with its interval."""
    shown = metric(key)
    if shown.higher_is_better is None:
        raise ValueError(f"metric {key!r} has no better direction; compare others")
    sign = shown.scale * (1.0 if shown.higher_is_better else -1.0)
    a, b = (r.metrics.get(key, np.full(len(r.seeds), np.nan)) for r in (ours, theirs))
    if np.isnan(a - b).all():
        return "-"
    gain = paired_interval(sign * a, sign * b)
    star = "*" if gain.excludes_zero else " "
    return f"{gain.mean:+.{shown.digits}f} ± {gain.half_width:.{shown.digits}f}{star}"
