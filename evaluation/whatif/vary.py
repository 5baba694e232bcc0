"""Fields of a scenario's tables by path, and the values that they are to take.

``replicas[0].count=2..8`` is a path and a range of whole numbers, both ends included;
``workload.rate_scale=0.5..2..0.25`` has a step; ``network.fidelity=fluid,flow`` is a list;
``replicas[0].speculation={kind="eagle"},unset`` is a table, or none.
"""

from __future__ import annotations

import copy
import itertools
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from gpuyard.envs.scenario import TABLES

MOST_FLEETS = 1000
UNSET = "unset"
"""A value that leaves a field out."""
_PATH = re.compile(r"[\w-]+(?:\[\d+\])*(?:\.[\w-]+(?:\[\d+\])*)*")
_PARTS = re.compile(r"[\w-]+|\[\d+\]")


@dataclass(frozen=True)
class Variation:
    """One field and the values that it takes."""

    path: str
    values: tuple[Any, ...]


def variation(text: str) -> Variation:
    """Return the variation that ``PATH=VALUES`` stands for.

    Raises:
        ValueError: naming the path, the values and what they may be.
    """
    path, equals, values = text.partition("=")
    path = path.strip()
    if not equals or not _PATH.fullmatch(path):
        raise ValueError(
            f"--vary {text!r}: write PATH=VALUES, for example replicas[0].count=2..8 or "
            "cluster.fabric.oversubscription=1,2,4"
        )
    found = _range(path, values) if ".." in values else tuple(map(_value, values.split(",")))
    said = list(map(repr, found))  # 1 and true are not the same
    twice = next((value for value in found if said.count(repr(value)) > 1), None)
    if twice is not None:
        raise ValueError(f"--vary {path}: {twice!r} is given twice")
    return Variation(path, found)


def _range(path: str, text: str) -> tuple[int | float, ...]:
    """Return the numbers of ``first..last`` or ``first..last..step``, both ends included."""
    where, parts = f"--vary {path}={text}", text.split("..")
    try:
        numbers = [Decimal(part) for part in parts]
    except InvalidOperation:
        numbers = []
    if len(numbers) not in (2, 3) or not all(number.is_finite() for number in numbers):
        raise ValueError(f"{where}: a range is first..last or first..last..step")
    if len(numbers) == 2 and any(number % 1 for number in numbers):
        raise ValueError(f"{where}: give a step, for example {text}..0.25")
    first, last, step = numbers if len(numbers) == 3 else [*numbers, Decimal(1)]
    if not step > 0 or not first <= last or not (last - first) / step < MOST_FLEETS:
        raise ValueError(f"{where}: a range goes up, in fewer than {MOST_FLEETS} steps above 0")
    found = [first + i * step for i in range(int((last - first) / step) + 1)]
    whole = not first % 1 and not step % 1
    return tuple(int(number) if whole else float(number) for number in found)


def _value(text: str) -> Any:
    """Return a value as TOML reads it; a bare word is text."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text.strip()


def fleets(variations: Sequence[Variation]) -> list[dict[str, Any]]:
    """Return every combination: a value by path each, the last path changing fastest.

    Raises:
        ValueError: a path is given twice, or there are too many combinations.
    """
    paths = [each.path for each in variations]
    twice = next((path for path in paths if paths.count(path) > 1), None)
    if twice is not None:
        raise ValueError(f"--vary {twice} is given twice; give one list of values")
    combinations = itertools.product(*(each.values for each in variations))
    found = [
        dict(zip(paths, c, strict=True)) for c in itertools.islice(combinations, MOST_FLEETS + 1)
    ]
    if len(found) > MOST_FLEETS:
        raise ValueError(f"--vary: more than {MOST_FLEETS} combinations; give fewer values")
    return found


def changed(table: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a scenario's tables with fields changed; whether these may be, the scenario says.

    A table that is not there yet is made; an entry of a list must be there.

    Raises:
        ValueError: a path leads nowhere; the message names it and what there is.
    """
    changed = copy.deepcopy(dict(table))
    for path, value in changes.items():
        *inner, last = _PARTS.findall(path)
        if inner == [] or inner[0] not in TABLES:
            raise ValueError(f"--vary {path}: the tables of a scenario are {', '.join(TABLES)}")
        place: Any = changed
        for number, part in enumerate(inner):
            listed = inner[number + 1 : number + 2] != [] and inner[number + 1][0] == "["
            place = _step(place, part, path, "".join(_dotted(inner[:number])), listed)
        _set(place, last, value, path, "".join(_dotted(inner)))
    return changed


def _step(place: Any, part: str, path: str, so_far: str, listed: bool) -> Any:
    """Return what stands one part of a path further in; ``listed``: an entry of it comes next."""
    if part.startswith("["):
        return _entry(place, part, path, so_far)
    if not isinstance(place, dict):
        raise ValueError(f"--vary {path}: {so_far} is {_said(place)}, not a table with {part!r}")
    if listed and part not in place:
        has = ", ".join(place) or "nothing"
        raise ValueError(
            f"--vary {path}: {so_far or 'the scenario'} has no list {part!r}; it has {has}: write "
            "its entries out in the file"
        )
    return place.setdefault(part, {})


def _entry(place: Any, part: str, path: str, so_far: str) -> Any:
    number = int(part[1:-1])
    if not isinstance(place, list) or not place:
        raise ValueError(f"--vary {path}: {so_far} is {_said(place)}; it has no entries")
    if number >= len(place):
        raise ValueError(f"--vary {path}: there is {so_far}[0] to {so_far}[{len(place) - 1}]")
    return place[number]


def _set(place: Any, last: str, value: Any, path: str, so_far: str) -> None:
    if last.startswith("["):
        _entry(place, last, path, so_far)
        place[int(last[1:-1])] = value
    elif isinstance(place, dict) and value == UNSET:
        place.pop(last, None)
    elif isinstance(place, dict):
        place[last] = value
    else:
        example = f"{so_far}[0].{last}" if isinstance(place, list) else so_far
        raise ValueError(f"--vary {path}: {so_far} is {_said(place)}; name {example}")


def _said(place: Any) -> str:
    return f"a list of {len(place)}" if isinstance(place, list) else repr(place)


def _dotted(parts: Sequence[str]) -> list[str]:
    """Return the parts with what stands before each in a path."""
    return [part if part.startswith("[") or not i else f".{part}" for i, part in enumerate(parts)]
