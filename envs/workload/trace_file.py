"""A trace file as columns of text with line numbers, and the checks that every reader shares.

Whatever is wrong with a file ends in one :class:`TraceError` that names the file, the line, the
field, the value and the remedy. What is odd but readable is a :class:`TraceWarning`.
"""

from __future__ import annotations

import csv
import gzip
import json
import warnings
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

MOST_S = 1e10
"""Times and run times end here, at 300 years: whatever is larger is no time."""
_MAX_TOKENS = 2**31 - 1
_SHOWN = 160  # characters of a value in an error


class TraceError(ValueError):
    """A trace file that cannot be read as it stands."""


class TraceWarning(UserWarning):
    """A trace file that was read, but not quite as it stands."""


def warn(path: Path, message: str) -> None:
    """Issue a :class:`TraceWarning` about ``path`` to the caller of the reader."""
    warnings.warn(f"{path}: {message}", TraceWarning, stacklevel=4)


def text_lines(path: Path) -> Iterator[str]:
    """Yield the lines of a UTF-8 text file, unpacked if it is gzip (by content, not by name).

    Raises:
        TraceError: there is no such file, it is cut short or damaged, or it is not UTF-8.
    """
    number = 0
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path) if packed else path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise TraceError(
            f"{path}, line {number}: {shown(error.object)} is not UTF-8 text; save the file as such"
        ) from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise TraceError(
            f"{path}: the gzip file is cut short or damaged behind line {number} ({error}); "
            "fetch or pack it again"
        ) from error
    except OSError as error:
        raise TraceError(f"{path}: cannot be opened ({error.strerror}); check the path") from error


def read_text(path: Path) -> str:
    """Return all of a text file; errors as of :func:`text_lines`."""
    return "".join(text_lines(path))


def first_line(path: Path, expected: str) -> str:
    """Return the first line of a text file that is not blank.

    Raises:
        TraceError: there is none.
    """
    for line in text_lines(path):
        if line.strip():
            return line
    raise TraceError(f"{path}: the file is empty; expected {expected}")


def shown(value: object) -> str:
    """Return a value as an error shows it: a long one by its beginning."""
    return brief(repr(value))


def brief(text: str) -> str:
    """Return a text, or the beginning of a long one."""
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


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
        raise TraceError(f"{self.path}, line {line}: {field} = {shown(value)} {problem}; {remedy}")

    def column(self, name: str) -> list[Any]:
        """Return a column's values.

        Raises:
            TraceError: the file has no such column.
        """
        if name not in self.columns:
            found = brief(", ".join(self.columns))
            raise TraceError(
                f"{self.path}: column {name!r} is missing (found: {found}); "
                "add it or name the right format"
            )
        return self.columns[name]

    def named(self, columns: Mapping[str, str], known: Collection[str]) -> Table:
        """Return the table with columns under other names.

        Args:
            columns: the file's name of a column by the reader's.
            known: the names that the reader knows.

        Raises:
            TraceError: the reader or the file has no such column.
        """
        found = dict(self.columns)
        for name, own in columns.items():
            if name not in known:
                raise TraceError(
                    f"{self.path}: columns: there is no {name!r} to map {own!r} to; use one of "
                    f"{', '.join(known)}"
                )
            if own not in self.columns:
                has = brief(", ".join(self.columns))
                raise TraceError(
                    f"{self.path}: columns: {name} = {own!r} is no column of the file; it has {has}"
                )
            found[name] = self.columns[own]
        return Table(self.path, found, self.lines)

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

    def seconds(self, name: str) -> NDArray[np.float64]:
        """Return a column of times as float64 (N,), none of them beyond :data:`MOST_S`.

        Raises:
            TraceError: a value is not a number of seconds.
        """
        times = self.numbers(name)
        self.refuse(name, np.abs(times) > MOST_S, "is no time", f"write at most {MOST_S:g} s")
        return times

    def convert(self, name: str, dtype: Any, problem: str, remedy: str) -> NDArray[Any]:
        """Return a column as an array of ``dtype``, finite throughout."""
        values = self.column(name)
        try:
            array = np.array(values, dtype=dtype)
            good = array.ndim == 1 and not any(isinstance(value, bool) for value in values)
        except (ValueError, TypeError, OverflowError):
            good = False
        if not good:
            row = _first_bad(values, dtype)
            self.fail(row, name, values[row], problem, remedy)
        self.refuse(name, ~np.isfinite(array), "is not finite", remedy)
        return array

    def refuse(self, name: str, bad: NDArray[np.bool_], problem: str, remedy: str) -> None:
        """Raise the error of the first value of a column that is ``bad``, (N,), if there is one."""
        if bad.any():
            row = int(bad.argmax())
            self.fail(row, name, self.column(name)[row], problem, remedy)

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
            if isinstance(value, bool) or np.array(value, dtype=dtype).ndim:
                return row
        except (ValueError, TypeError, OverflowError):
            return row
    raise AssertionError("every value converts alone")


def read_csv(path: Path, separator: str = ",", names: Sequence[str] = ()) -> Table:
    """Read a CSV file.

    Args:
        path: the file.
        separator: between two values.
        names: of the columns, where the file has no header line.

    Raises:
        TraceError: the file is empty, has no rows, a column twice, a row with too few or too many
            values, or a value without end.
    """
    rows = csv.reader(text_lines(path), delimiter=separator)
    records, lines = [], []
    header = list(names)
    try:
        if not header:
            header = [name.strip() for name in next(rows, [])]
            _check_header(path, header)
        for record in rows:
            if not record:
                continue
            if len(record) != len(header):
                raise TraceError(
                    f"{path}, line {rows.line_num}: {len(record)} values for {len(header)} "
                    f"columns ({shown(separator.join(record))}); correct or remove the line"
                )
            records.append(record)
            lines.append(rows.line_num)
    except csv.Error as error:
        raise TraceError(
            f"{path}, line {rows.line_num}: is no line of CSV ({error}); correct or remove it"
        ) from error
    if not records:
        raise TraceError(f"{path}: has a header but no rows; expected one row each")
    columns = dict(zip(header, map(list, zip(*records, strict=True)), strict=True))
    return Table(path, columns, np.array(lines))


def _check_header(path: Path, header: list[str]) -> None:
    if not header:
        raise TraceError(f"{path}: the file is empty; expected a header line and one row each")
    twice = [name for name in header if header.count(name) > 1]
    if twice:
        raise TraceError(
            f"{path}, line 1: column {shown(twice[0])} stands there twice; rename or remove one"
        )


def parsed(path: Path, number: int, text: str) -> dict[str, Any]:
    """Return the JSON object of one line.

    Raises:
        TraceError: it is none, or has a field twice.
    """
    try:
        record = json.loads(text, object_pairs_hook=_without_twins)
        if not isinstance(record, dict):
            raise ValueError("not an object")
    except (ValueError, RecursionError) as error:
        raise TraceError(
            f"{path}, line {number}: {shown(text.strip())} is not a JSON object ({error}); "
            "write one object per line"
        ) from error
    return record


def mapped(path: Path, format: str) -> str:
    """Return the format of a file whose columns are mapped by the user.

    Raises:
        TraceError: it is to be another one.
    """
    if format not in ("auto", "plain"):
        raise TraceError(
            f"{path}: columns are mapped to those of format plain, not of {format}; leave one out"
        )
    return "plain"


def cells(path: Path, line: str, separator: str = ",") -> list[str]:
    """Return the values of one line of CSV.

    Raises:
        TraceError: it is none.
    """
    try:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=separator))]
    except csv.Error as error:
        raise TraceError(f"{path}, line 1: is no line of CSV ({error}); correct it") from error


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"field {shown(twice)} stands there twice")
    return record


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
    for number, text in enumerate(text_lines(path), start=1):
        if not text.strip():
            continue
        record = parsed(path, number, text)
        missing = next((name for name in fields if name not in record), None)
        if missing:
            raise TraceError(
                f"{path}, line {number}: field {missing!r} is missing "
                f"(found: {brief(', '.join(record))}); add it or name the right format"
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
