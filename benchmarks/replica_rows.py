"""What comparisons of replicas' starts and handovers with published rows share."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import pandas as pd


def errors(table: pd.DataFrame, by: str) -> pd.DataFrame:
    """Return median and 90th percentile of the errors without sign.

    Args:
        table: rows with ``error`` in %, and ``fit`` for those that set a constant.
        by: column that says what was measured; all of it together has a row of its own.
    """
    groups = pd.concat([table, table.assign(**{by: "all"})]).groupby([by, "fit"]).error
    return groups.agg(
        rows="count",
        median=lambda error: error.abs().median(),
        p90=lambda error: error.abs().quantile(0.9),
        bias="median",
    ).reset_index()


def report(table: pd.DataFrame, by: str, shown: Sequence[str]) -> None:
    """Print the errors, and with ``--rows`` some columns of every row before."""
    if "--rows" in sys.argv:
        print(table[list(shown)].round(2).to_string(index=False))
    print(errors(table, by).round(1).to_string(index=False))
