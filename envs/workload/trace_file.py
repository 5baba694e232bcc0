"""A trace file as columns of text with line numbers, and the checks that every reader shares.

Whatever is wrong with a file ends in one :class:`TraceError` that names the file, the line, the
field, the value and the remedy. What is odd but readable is a :class:`TraceWarning`.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

_MAX_TOKENS = 2**31 - 1


class TraceError(ValueError):
    """A trace file that cannot be read as it stands."""


class TraceWarning(UserWarning):
    """A trace file that was read, but not quite as it stands."""


def warn(path: Path, message: str) -> None:
    """Issue a :class:`TraceWarning` about ``path`` to the caller of the reader."""
    warnings.warn(f"{path}: {message}", TraceWarning, stacklevel=4)


def open_text(path: Path) -> io.TextIOWrapper:
    """Open a text file, unpacked if it is gzip (by content, not by name).

    Raises:
        TraceError: there is no such file.
    """
    try:
        with path.open("rb") as probe:
            packed = probe.read(2) == b"\x1f\x8b"
    except OSError as error:
        raise TraceError(f"{path}: cannot be opened ({error.strerror}); check the path") from error
    if packed:
        return io.TextIOWrapper(gzip.open(path), encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


@dataclass(frozen=True)
class Table:
    """The rows of one trace file.

    Attributes:
        path: where they came from.
        columns: values by column name, all of the same length: text from CSV, parsed from JSON.
        lines: int64 (N,), line of each row in the file, from 1.
    """

    path: Path
    columns: dict[str, list[Any]]
    lines: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.lines)

    def fail(self, row: int, field: str, value: object, problem: str, remedy: str) -> NoReturn:
        """Raise the error of one bad value."""
        line = self.lines[row]
        raise TraceError(f"{self.path}, line {line}: {field} = {value!r} {problem}; {remedy}")

    def column(self, name: str) -> list[Any]:
        """Return a column's values.

        Raises:
            TraceError: the file has no such column.
        """
        if name not in self.columns:
            found = ", ".join(self.columns)
            raise TraceError(
                f"{self.path}: column {name!r} is missing (found: {found}); "
                "add it or name the right format"
            )
        return self.columns[name]

    def take(self, rows: NDArray[np.int64]) -> Table:
        """Return the table of these row numbers, in this order."""
        columns = {name: [values[i] for i in rows] for name, values in self.columns.items()}
        return Table(self.path, columns, self.lines[rows])

    def numbers(self, name: str) -> NDArray[np.float64]:
        """Return a column as finite float64 (N,).

        Raises:
            TraceError: a value is missing, not a number or not finite.
        """
        return self.convert(name, np.float64, "is not a number", "write a finite decimal number")

    def convert(self, name: str, dtype: Any, problem: str, remedy: str) -> NDArray[Any]:
        """Return a column as an array of ``dtype``, finite throughout."""
        values = self.column(name)
        try:
            array = np.array(values, dtype=dtype)
        except (ValueError, TypeError, OverflowError):
            row = _first_bad(values, dtype)
            self.fail(row, name, values[row], problem, remedy)
        bad = np.flatnonzero(~np.isfinite(array))
        if len(bad):
            self.fail(int(bad[0]), name, values[bad[0]], "is not finite", remedy)
        return array

    def tokens(self, name: str) -> NDArray[np.int32]:
        """Return a column of token counts as int32 (N,), all >= 1.

        Raises:
            TraceError: a value is not a whole number of at least 1.
        """
        counts = self.numbers(name)
        bad = np.flatnonzero((counts < 1) | (counts > _MAX_TOKENS) | (counts != np.floor(counts)))
        if len(bad):
            row = int(bad[0])
            remedy = "a length is a whole number of tokens >= 1: correct or remove the row"
            if counts[row] == 0:
                remedy += ", or pass drop_failed=True to leave out requests without output"
            self.fail(row, name, self.columns[name][row], "is not a length", remedy)
        return counts.astype(np.int32)


def _first_bad(values: list[Any], dtype: Any) -> int:
    """Return the row of the first value that does not convert alone."""
    for row, value in enumerate(values):
        try:
            np.array(value, dtype=dtype)
        except (ValueError, TypeError, OverflowError):
            return row
    raise AssertionError("every value converts alone")


def read_csv(path: Path) -> Table:
    """Read a CSV file with a header line.

    Raises:
        TraceError: the file is empty, has no rows, or a row with too few or too many values.
    """
    with open_text(path) as file:
        rows = csv.reader(file)
        header = [name.strip() for name in next(rows, [])]
        if not header:
            raise TraceError(f"{path}: the file is empty; expected a header line and one row each")
        records, lines = [], []
        for record in rows:
            if not record:
                continue
            if len(record) != len(header):
                raise TraceError(
                    f"{path}, line {rows.line_num}: {len(record)} values for {len(header)} "
                    f"columns ({','.join(record)!r}); correct or remove the line"
                )
            records.append(record)
            lines.append(rows.line_num)
    if not records:
        raise TraceError(f"{path}: has a header but no rows; expected one row per request")
    columns = dict(zip(header, map(list, zip(*records, strict=True)), strict=True))
    return Table(path, columns, np.array(lines))


def whole_numbers(value: Any) -> Any:
    """Return a list of whole numbers as int64 (M,), anything else as it is."""
    if not isinstance(value, list):
        return value
    try:
        array = np.array(value)
    except ValueError:
        return value
    if not value:
        return array.astype(np.int64)
    return array if array.ndim == 1 and array.dtype == np.int64 else value


def read_jsonl(
    path: Path, fields: tuple[str, ...], optional: tuple[str, ...] = (), packed: str = ""
) -> Table:
    """Read a file of one JSON object a line.

    Args:
        path: the file.
        fields: to keep, required on every line.
        optional: to keep, None where a line has none.
        packed: the field whose lists of whole numbers are kept as arrays.

    Raises:
        TraceError: the file is empty, a line is not a JSON object, or a field is missing.
    """
    columns: dict[str, list[Any]] = {name: [] for name in (*fields, *optional)}
    lines = []
    with open_text(path) as file:
        for number, text in enumerate(file, start=1):
            if not text.strip():
                continue
            try:
                record = json.loads(text)
                if not isinstance(record, dict):
                    raise ValueError("not an object")
            except ValueError as error:
                raise TraceError(
                    f"{path}, line {number}: {text.strip()[:60]!r} is not a JSON object ({error}); "
                    "write one object per line"
                ) from error
            missing = next((name for name in fields if name not in record), None)
            if missing:
                raise TraceError(
                    f"{path}, line {number}: field {missing!r} is missing "
                    f"(found: {', '.join(record)}); add it or name the right format"
                )
            for name, values in columns.items():
                value = record.get(name)
                values.append(whole_numbers(value) if name == packed else value)
            lines.append(number)
    if not lines:
        raise TraceError(f"{path}: the file is empty; expected one JSON object per line")
    return Table(path, columns, np.array(lines))


def drop_zero_output(table: Table, output: str) -> Table:
    """Leave out requests whose ``output`` is 0 tokens, with a warning that counts them.

    Raises:
        TraceError: nothing is left.
    """
    failed = table.numbers(output) == 0
    if not failed.any():
        return table
    warn(table.path, f"dropped {failed.sum()} of {len(table)} requests with {output} = 0 (failed)")
    if failed.all():
        raise TraceError(f"{table.path}: every request has {output} = 0; nothing is left to replay")
    return table.take(np.flatnonzero(~failed))
