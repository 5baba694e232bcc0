"""Slurm's hostlists: ``tux[0-3,12,18-20]`` and the names that it stands for."""

from __future__ import annotations

import itertools
import math
import re

MOST_NAMES = 2**17
"""Of the lists of one file together: no cluster has more nodes."""

_PART = re.compile(r"([A-Za-z0-9._-]+)|\[([^\[\]]*)\]")
_RANGE = re.compile(r"([0-9]{1,18})(?:-([0-9]{1,18}))?")


def expand(text: str, most: int = MOST_NAMES) -> list[str]:
    """Return the names of a hostlist, in its order.

    A list is names with commas between them; a name may have brackets of numbers and ranges,
    several too: ``rack[0-1]node[00-15]`` counts its last bracket fastest. A number keeps the
    leading zeros of its range's lower end.

    Args:
        text: the list.
        most: names that it may stand for.

    Raises:
        ValueError: what is wrong with it and what to write instead.
    """
    words = [_parts(word) for word in _words(text)]
    count = sum(math.prod(len(choices) for choices in parts) for parts in words)
    if count > most:
        raise ValueError(f"stands for {count} names, and a file may have {MOST_NAMES}; give fewer")
    chosen = (itertools.product(*parts) for parts in words)
    return ["".join(name) for name in itertools.chain.from_iterable(chosen)]


def _words(text: str) -> list[str]:
    """Split at the commas outside brackets."""
    words = re.split(r",(?![^\[\]]*\])", text)
    if not all(words):
        raise ValueError("has an empty name; write names with one comma between two")
    return words


class _Numbers:
    """The numbers of one bracket as texts, made when asked for: ranges may be huge."""

    def __init__(self, text: str) -> None:
        self.ranges = [_range(item, text) for item in text.split(",")]

    def __len__(self) -> int:
        return sum(high - low + 1 for low, high, _ in self.ranges)

    def __iter__(self) -> itertools.chain[str]:
        return itertools.chain.from_iterable(
            (f"{number:0{width}d}" for number in range(low, high + 1))
            for low, high, width in self.ranges
        )


def _range(item: str, bracket: str) -> tuple[int, int, int]:
    """Return the ends of a range and the digits that its numbers have at least."""
    found = _RANGE.fullmatch(item)
    if not found:
        raise ValueError(f"has [{bracket[:40]}]; write numbers and ranges, for example [0-3,12]")
    low, high = int(found[1]), int(found[2] or found[1])
    if low > high:
        raise ValueError(f"has the range {item}; write the lower number first")
    return low, high, len(found[1])


def _parts(word: str) -> list[_Numbers | list[str]]:
    """Return a name's pieces: what stands outside brackets, and the numbers of each bracket."""
    parts: list[_Numbers | list[str]] = []
    end = 0
    while found := _PART.match(word, end):
        parts.append([found[1]] if found[1] is not None else _Numbers(found[2]))
        end = found.end()
    if end < len(word):
        raise ValueError(
            f"has {word[end : end + 40]!r}; a name is letters, digits, '.', '_' and '-', with "
            "numbers in brackets, for example tux[0-3,12]"
        )
    return parts
