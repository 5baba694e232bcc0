"""The plain CSV of this project, and files of other simulators with the same columns.

| column | also named | meaning |
|---|---|---|
| `arrival_s` | `arrived_at` | seconds, kept as they are |
| `prompt_tokens` | `num_prefill_tokens`, `input_tokens` | >= 1 |
| `output_tokens` | `num_decode_tokens` | >= 1 |
| `max_tokens` | | bound on the output that the request states, optional |
| `session` | | any label, optional |
| `priority` | | in [0, 1], optional |
| `client` | | who sent it, any label; optional, for `[[clients]]` of a scenario |
| `deadline_s` | | seconds from its arrival until it expires unless begun; optional, may be empty |
| `prefix_ids` | `block16_chain_ids` | space-separated block ids of prompt, then output; optional |
| `prefix_block_tokens` | | tokens per id, the same on every line; needed with `prefix_ids` |

A file with other names is read by a mapping, `columns = {arrival_s = "time", ...}`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ...trace_file import Table, drop_zero_output, read_csv
from ..assemble import Blocks, assemble
from ..stream import RequestStream

_ARRIVAL = ("arrival_s", "arrived_at")
_PROMPT = ("prompt_tokens", "num_prefill_tokens", "input_tokens")
_OUTPUT = ("output_tokens", "num_decode_tokens")
_IDS = ("prefix_ids", "block16_chain_ids")
_BLOCK_TOKENS = "prefix_block_tokens"

LONGEST_DEADLINE_S = 86_400.0

COLUMNS = (
    *("arrival_s", "prompt_tokens", "output_tokens", "max_tokens", "session", "priority"),
    *("client", "deadline_s", "prefix_ids", _BLOCK_TOKENS),
)
"""What a mapping may name."""


def detect(names: set[str]) -> bool:
    """Tell whether these column names are of this format."""
    return all(names & set(aliases) for aliases in (_ARRIVAL, _PROMPT, _OUTPUT))


def read(
    path: Path,
    *,
    sort: bool = False,
    drop_failed: bool = False,
    columns: Mapping[str, str] | None = None,
) -> RequestStream:
    """Read a plain CSV.

    Args:
        path: the file.
        sort: by arrival.
        drop_failed: leave out requests without output.
        columns: the file's name of a column by that of :data:`COLUMNS`.
    """
    table = read_csv(path).named(columns or {}, COLUMNS)
    arrival, prompt, output = (_pick(table, names) for names in (_ARRIVAL, _PROMPT, _OUTPUT))
    if drop_failed:
        table = drop_zero_output(table, output)
    return assemble(
        table,
        arrival,
        prompt,
        output,
        sort=sort,
        session=table.columns.get("session"),
        priority=_priority(table),
        blocks=_blocks(table),
        bound="max_tokens" if "max_tokens" in table.columns else None,
        client=table.columns.get("client"),
        deadline_s=_deadlines(table),
    )


def _pick(table: Table, aliases: tuple[str, ...]) -> str:
    """Return the alias that the table has, else the first one."""
    return next((name for name in aliases if name in table.columns), aliases[0])


def _priority(table: Table) -> np.ndarray | None:
    if "priority" not in table.columns:
        return None
    values = table.numbers("priority")
    bad = np.flatnonzero((values < 0) | (values > 1))
    if len(bad):
        row = int(bad[0])
        table.fail(row, "priority", values[row], "is out of range", "scale priorities to [0, 1]")
    return values


def _deadlines(table: Table) -> np.ndarray | None:
    """Return the seconds that each request gives itself, NaN where it says nothing."""
    if "deadline_s" not in table.columns:
        return None
    said = [value is not None and value != "" for value in table.column("deadline_s")]
    values = np.full(len(said), np.nan)
    for row in np.flatnonzero(said):
        text = table.columns["deadline_s"][row]
        try:
            values[row] = float(text)
        except (TypeError, ValueError):
            table.fail(int(row), "deadline_s", text, "is not a number", "write seconds, or nothing")
    bad = np.array(said) & ~((values > 0) & (values <= LONGEST_DEADLINE_S))
    limit = f"write seconds above 0, at most {LONGEST_DEADLINE_S:g}, or nothing"
    table.refuse("deadline_s", bad, "is no deadline", limit)
    return values


def _blocks(table: Table) -> Blocks | None:
    field = _pick(table, _IDS)
    if field not in table.columns:
        return None
    tokens = 16 if field == "block16_chain_ids" else _block_tokens(table)
    ids = []
    for row, text in enumerate(table.column(field)):
        try:
            ids.append(np.array(text.split(), np.int64))
        except (ValueError, OverflowError) as error:
            table.fail(row, field, text[:60], f"is unreadable ({error})", "write whole numbers")
    return Blocks(field, ids, tokens, cover_output=True)


def _block_tokens(table: Table) -> int:
    sizes = table.tokens(_BLOCK_TOKENS)
    other = np.flatnonzero(sizes != sizes[0])
    if len(other):
        row = int(other[0])
        problem = f"differs from {sizes[0]} on line {table.lines[0]}"
        table.fail(row, _BLOCK_TOKENS, sizes[row], problem, "use one block size per file")
    return int(sizes[0])
