"""Azure LLM inference traces of 2023 and 2024: TIMESTAMP, ContextTokens, GeneratedTokens.

Source: github.com/Azure/AzurePublicDataset (Patel et al., "Splitwise", ISCA 2024; Stojkovic et al.,
"DynamoLLM", HPCA 2025). Stamps are wall clock in UTC: 7 fractional digits in 2023, none to 7 with a
``+00:00`` suffix in 2024, mixed. The first arrival becomes time 0.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...trace_file import Table, drop_zero_output, read_csv, warn
from ..assemble import assemble
from ..stream import RequestStream

_STAMP, _PROMPT, _OUTPUT = _COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
_LOOKALIKE_ROWS = 5880


def detect(names: set[str]) -> bool:
    """Tell whether these column names are of this format."""
    return names >= set(_COLUMNS)


def read(path: Path, *, sort: bool = False, drop_failed: bool = False) -> RequestStream:
    """Read an Azure trace; ``drop_failed`` leaves out requests without output."""
    table = read_csv(path)
    if len(table) == _LOOKALIKE_ROWS or "azure_llm_2024_sample" in path.name:
        warn(
            path, "looks like the synthetic azure_llm_2024_sample.csv of 5,880 rows, no real trace"
        )
    if drop_failed:
        table = drop_zero_output(table, _OUTPUT)
    stamps = _seconds(table)
    return assemble(table, _STAMP, _PROMPT, _OUTPUT, sort=sort, arrival_s=stamps - stamps.min())


def _seconds(table: Table) -> NDArray[np.float64]:
    """Return the stamps as seconds since the first row, exact to the nanosecond."""
    problem = "is not a UTC time"
    remedy = "write YYYY-MM-DD HH:MM:SS, up to 9 fractional digits, and +00:00, Z or nothing behind"
    stamps = [s.strip().removesuffix("Z").removesuffix("+00:00") for s in table.column(_STAMP)]
    for row, stamp in enumerate(stamps):
        if (
            "+" in stamp
            or "-" in stamp[10:]
            or not ("1970" <= stamp[:4] < "2200" and stamp[4:5] == "-")
        ):
            table.fail(row, _STAMP, stamp, problem, remedy)
    times = replace(table, columns={_STAMP: stamps}).convert(
        _STAMP, "datetime64[ns]", problem, remedy
    )
    return (times - times[0]) / np.timedelta64(1, "s")
