"""One line of a topology: a switch or a block with what hangs below it, and where it was read."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from .hostlist import MOST_NAMES, expand


@dataclass(frozen=True)
class Place:
    """Where something stands in a file, for messages."""

    path: Path
    line: int = 0

    def text(self) -> str:
        """Return the text of the file.

        Raises:
            ValueError: naming the file, the line that is no text, and the remedy.
        """
        try:
            return self.path.read_text("utf-8-sig")
        except OSError as error:
            raise self.error(f"cannot be opened ({error.strerror}); check the path") from error
        except UnicodeDecodeError as error:
            line = error.object.count(b"\n", 0, error.start) + 1
            raise Place(self.path, line).error("is not UTF-8 text; save it as such") from error

    def error(self, problem: str) -> ValueError:
        """Return the error to raise for what stands here."""
        line = f", line {self.line}" if self.line else ""
        return ValueError(f"{self.path}{line}: {problem}")

    def bad(self, key: str, value: object, remedy: str) -> ValueError:
        """Return the error to raise for the value of a key."""
        shown = repr(value)
        shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
        return self.error(f"{key} = {shown}: {remedy}")


class Hostlists:
    """Expands the hostlists of one file, which may have so many names together."""

    def __init__(self) -> None:
        self.left = MOST_NAMES

    def expand(self, place: Place, key: str, text: str) -> list[str]:
        """Return the names of a hostlist.

        Raises:
            ValueError: naming file, line, key, value and remedy.
        """
        try:
            found = expand(text, self.left)
        except ValueError as error:
            raise place.bad(key, text, str(error)) from None
        seen: set[str] = set()
        for name in found:
            if name in seen:
                raise place.bad(key, text, f"has {name!r} twice; leave one out")
            seen.add(name)
        self.left -= len(found)
        return found


@dataclass(frozen=True)
class Entry:
    """A switch or a block.

    Attributes:
        place: where it was read.
        name: what it is called.
        nodes: names of the nodes that hang at it.
        switches: names of the switches below it.
    """

    place: Place
    name: str
    nodes: list[str] = field(default_factory=list)
    switches: list[str] = field(default_factory=list)
