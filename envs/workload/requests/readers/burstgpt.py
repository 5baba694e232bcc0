"""BurstGPT: Timestamp, Model, Request tokens, Response tokens, Total tokens, Log Type.

Source: github.com/HPMLL/BurstGPT (Wang et al., "BurstGPT", KDD 2025, CC-BY-4.0). Later files add
Session ID and Elapsed time and do not start at 0; the first arrival becomes time 0. Failed requests
have 0 response tokens. Stamps are whole seconds, so that many requests share one.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np

from ...trace_file import Table, drop_zero_output, read_csv, warn
from ..assemble import assemble
from ..stream import RequestStream

_STAMP, _PROMPT, _OUTPUT = ("Timestamp", "Request tokens", "Response tokens")


def detect(names: set[str]) -> bool:
    """Tell whether these column names are of this format."""
    return names >= {_STAMP, _PROMPT, _OUTPUT}


def read(path: Path, *, sort: bool = False, drop_failed: bool = True) -> RequestStream:
    """Read a BurstGPT trace; ``drop_failed`` leaves out requests without response, and counts."""
    table = read_csv(path)
    if _is_lookalike(table):
        warn(path, "one row a second with alternating models: a synthetic BurstGPT, no real trace")
    if drop_failed:
        table = drop_zero_output(table, _OUTPUT)
    arrival_s = table.numbers(_STAMP)
    return assemble(
        table,
        _STAMP,
        _PROMPT,
        _OUTPUT,
        sort=sort,
        arrival_s=arrival_s - arrival_s.min(),
        session=table.columns.get("Session ID"),
    )


def _is_lookalike(table: Table) -> bool:
    """Tell the synthetic file that circulates under this name: evenly spaced, models in turn."""
    stamps, models = table.numbers(_STAMP), table.columns.get("Model", [])
    if len(stamps) < 8 or not models:
        return False
    even = np.all(np.diff(stamps) == 1.0)
    return bool(even) and all(a != b for a, b in pairwise(models))
