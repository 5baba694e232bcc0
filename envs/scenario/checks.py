"""Checked access to the tables of a scenario file, with errors that say what to do."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any


class ScenarioError(ValueError):
    """A scenario that cannot be simulated; the message names the field, its value and a remedy."""


def checked_table(value: Any, where: str) -> dict[str, Any]:
    """Return ``value`` after making sure that it is a table."""
    if not isinstance(value, dict):
        raise ScenarioError(
            f"{where} = {value!r} must be a table: write its fields under [{where}]"
        )
    return value


def refuse_unknown(table: dict[str, Any], known: set[str], where: str) -> None:
    """Refuse fields other than the ``known`` ones."""
    for key in table:
        if key not in known:
            raise ScenarioError(f"{where}.{key} is unknown; use one of {', '.join(sorted(known))}")


def check_type(where: str, value: Any, example: Any) -> None:
    """Refuse a value that is not of the kind of ``example``; a whole number will do for a float."""
    kinds = {float: "a number", int: "a whole number", str: "text", bool: "true or false"}
    allowed = (int, float) if isinstance(example, float) else type(example)
    if not isinstance(value, allowed) or isinstance(value, bool) != isinstance(example, bool):
        kind = kinds[type(example)]
        raise ScenarioError(f"{where} = {value!r} must be {kind}, for example {example!r}")


def check_types(kind: type, table: dict[str, Any], where: str) -> None:
    """Refuse values that are not of the kind of the dataclass field's default."""
    for item in fields(kind):
        if item.name in table and isinstance(item.default, (float, int, str)):
            check_type(f"{where}.{item.name}", table[item.name], item.default)


def section(kind: type, table: Any, where: str) -> Any:
    """Build a dataclass of plain values from a table, with its types checked."""
    refuse_unknown(checked_table(table, where), {item.name for item in fields(kind)}, where)
    check_types(kind, table, where)
    return kind(**table)


def weights(table: Any, terms: tuple[str, ...], where: str) -> tuple[float, ...]:
    """Return the weight of every term, 0 for those that the table does not name."""
    refuse_unknown(checked_table(table, where), set(terms), where)
    for term, weight in table.items():
        check_type(f"{where}.{term}", weight, 1.0)
        if not math.isfinite(weight):
            raise ScenarioError(f"{where}.{term} = {weight!r} must be a finite number")
    return tuple(float(table.get(term, 0.0)) for term in terms)
