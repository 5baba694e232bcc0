"""The fleets of a what-if as a table: a row per fleet and policy."""

from __future__ import annotations

from collections.abc import Sequence

from ..metrics import metric
from ..tables import Table, cell
from .answer import Row
from .fleets import shown_columns

SERVING = ("slo_attainment", "ttft_p99_s", "goodput", "cost_per_mtok")
JOBS = ("jct_mean_s", "jwt_mean_s", "utilisation", "cost_per_gpu_h", "cost")


def metrics_of(found: Sequence[Row]) -> list[str]:
    """Return the keys to show: those that some row has."""
    measured = {key for row in found for key in row.played.metrics}
    return [key for key in (*SERVING, *JOBS) if key in measured]


def table(found: Sequence[Row]) -> Table:
    """Return the table, the heading first."""
    paths, keys = shown_columns([row.fleet for row in found]), metrics_of(found)
    judged = any(row.verdict for row in found)
    head = [*paths, "policy", "$/h", *(metric(key).label for key in keys)]
    rows = [head + ["objective"] * judged]
    for row in found:
        price = f"{row.fleet.price_per_h:.2f}" if row.fleet.price_per_h else "-"
        cells = [*(str(row.fleet.changes[path]) for path in paths), row.played.policy, price]
        cells += [cell(row.played, key) for key in keys]
        rows.append(cells + [row.verdict] * judged)
    return rows
