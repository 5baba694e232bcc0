"""Checked access to the cells of a data row, with errors that say what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

Row = Mapping[str, Any]


def did_you_mean(near: list[str], every: Iterable[str]) -> str:
    """Return a hint: the near names, or every name if none is near."""
    return f"did you mean {', '.join(near)}?" if near else f"use one of {', '.join(every)}"


class Cells:
    """The cells of one row; columns that are not ``known`` are refused.

    Args:
        kind: what the row describes, for messages.
        name: its name, for messages.
        row: the cells; missing and empty ones take their default.
        known: names of the columns.
    """

    def __init__(self, kind: str, name: str, row: Row, known: set[str]):
        self.label = f"{kind} {name!r}"
        self.row = row
        for field in set(row) - known:
            near = difflib.get_close_matches(field, known, n=3)
            raise self.error(field, row[field], f"no such field; {did_you_mean(near, known)}")

    def error(self, field: str, value: object, remedy: str) -> ValueError:
        """Return the error to raise for one cell."""
        return ValueError(f"{self.label}: {field} = {value!r}: {remedy}")

    def number(self, field: str, low: float = 0.0, default: float | None = None) -> float:
        """Return a finite number of at least ``low``; without a default the cell is required."""
        value = self.row.get(field, "")
        if value == "":
            if default is None:
                raise self.error(field, value, "missing; give a number")
            return float(default)
        try:
            result = float(value)
        except (TypeError, ValueError, OverflowError):
            raise self.error(field, value, "not a number") from None
        if not low <= result < float("inf"):
            raise self.error(field, value, f"give a finite number >= {low:g}")
        return result

    def whole(self, field: str, low: int = 0, default: int | None = None) -> int:
        """Return a whole number of at least ``low``."""
        result = self.number(field, low, default)
        if result != int(result):
            raise self.error(field, result, "give a whole number")
        return int(result)

    def choice(self, field: str, options: tuple[str, ...], default: str) -> str:
        """Return one of ``options``."""
        value = str(self.row.get(field) or default)
        if value not in options:
            raise self.error(field, value, f"use one of {', '.join(options)}")
        return value
