"""Checked access to the tables of a scenario file, with errors that say what to do.

A table of plain values is a dataclass: a field's default says its type, its metadata what else a
value must be.

| Metadata | A value must be |
|---|---|
| `above` | finite and above this |
| `at_least` | finite and this or more |
| `at_most` | at most this; a pair with the reason |
| `range` | finite and in (least, most) |
| `within` | in (least, most) |
| `whole` | a whole number of this or more |
| `choices`, `either` | one of these; the errors differ in their words |
| `example` | of this one's type; None: of any, the rule decides. The default's if not given |
| `meaning` | (for the documentation) |
| `part` | given only where this decision is taken ("route", "place") |
| "route", "place" | what these rules say, only where this decision is taken |
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
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


def text_table(value: Any, where: str) -> dict[str, str]:
    """Return ``value`` after making sure that it is a table of texts."""
    for key, text in checked_table(value, where).items():
        check_type(f"{where}.{key}", text, "name")
    return value


def refuse_unknown(table: dict[str, Any], known: Collection[str], where: str) -> None:
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


def check_above(where: str, value: float, bound: float) -> None:
    """Refuse numbers that are not finite or not above ``bound``."""
    if not (math.isfinite(value) and value > bound):
        raise ScenarioError(f"{where} = {value!r} must be a finite number above {bound:g}")


def check_whole(where: str, value: Any, least: int) -> None:
    """Refuse everything but whole numbers of ``least`` or more."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ScenarioError(f"{where} = {value!r} must be a whole number >= {least}")


def _check_at_least(where: str, value: float, bound: float) -> None:
    if not (math.isfinite(value) and value >= bound):
        raise ScenarioError(f"{where} = {value!r} must be a finite number >= {bound:g}")


def _check_at_most(where: str, value: float, limit: tuple[float, str]) -> None:
    most, reason = limit
    if value > most:
        raise ScenarioError(f"{where} = {value!r} must be at most {most:g}: {reason}")


def _check_range(where: str, value: float, limits: tuple[float, float]) -> None:
    low, high = limits
    if not (math.isfinite(value) and low <= value <= high):
        bound = f"from {low:g} to {high:g}" if high < math.inf else f"{low:g} or more"
        raise ScenarioError(f"{where} = {value!r} must be a finite number, {bound}")


def _check_within(where: str, value: float, limits: tuple[float, float]) -> None:
    low, high = limits
    if not low <= value <= high:
        raise ScenarioError(f"{where} = {value!r} must lie in [{low:g}, {high:g}]")


def _check_choices(where: str, value: Any, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ScenarioError(f"{where} = {value!r} must be one of {', '.join(allowed)}")


def _check_either(where: str, value: Any, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        *first, last = allowed
        raise ScenarioError(f"{where} = {value!r} must be {', '.join(first)} or {last}")


_RULES: dict[str, Callable[[str, Any, Any], None]] = {
    "above": check_above,
    "at_least": _check_at_least,
    "at_most": _check_at_most,
    "range": _check_range,
    "within": _check_within,
    "whole": check_whole,
    "choices": _check_choices,
    "either": _check_either,
}


def known_fields(kind: type, decisions: Collection[str] = ()) -> set[str]:
    """Return the fields of a dataclass that a table may give where these decisions are taken."""
    return {
        item.name
        for item in fields(kind)
        if "part" not in item.metadata or item.metadata["part"] in decisions
    }


def check_values(
    kind: type, table: dict[str, Any], where: str, decisions: Collection[str] = ()
) -> None:
    """Refuse values that are not what the fields of a dataclass say: types first, then rules."""
    given = [item for item in fields(kind) if item.name in table]
    for item in given:
        example = item.metadata.get("example", item.default)
        if isinstance(example, (float, int, str)):
            check_type(f"{where}.{item.name}", table[item.name], example)
    for item in given:
        rules = dict(item.metadata)
        for decision in decisions:
            rules |= rules.get(decision, {})
        for rule, limit in rules.items():
            if rule in _RULES:
                _RULES[rule](f"{where}.{item.name}", table[item.name], limit)


def section(kind: type, table: Any, where: str, decisions: Collection[str] = ()) -> Any:
    """Build a dataclass of plain values from a table, with its values checked."""
    refuse_unknown(checked_table(table, where), known_fields(kind, decisions), where)
    check_values(kind, table, where, decisions)
    try:
        return kind(**table)
    except ValueError as error:  # fields that do not go together
        raise ScenarioError(str(error)) from error
