"""Slurm's ``topology.conf``: lines of ``SwitchName=`` or ``BlockName=``.

Source: ``topology.conf(5)`` of Slurm. Keys are read in any case, text behind ``#`` is a comment, a
backslash at the end of a line joins it to the next. ``LinkSpeed`` says nothing that Slurm uses and
is not used here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from .entry import Entry, Hostlists, Place
from .tree import Topology, from_blocks, from_switches

_PAIR = re.compile(r'\s*([A-Za-z]+)\s*=\s*("[^"]*"|\S+)')
_KEYS = ("switchname", "switches", "nodes", "linkspeed", "blockname", "blocksizes")


def read_conf(path: Path, text: str) -> Topology:
    """Return the topology that a ``topology.conf`` describes.

    Raises:
        ValueError: naming file, line, key, value and remedy.
    """
    lists = Hostlists()
    switches: list[Entry] = []
    blocks: list[Entry] = []
    sizes: list[int] = []
    sizes_at = Place(path)
    for place, line in _lines(path, text):
        pairs = _pairs(place, line)
        if "switchname" in pairs:
            switches.append(_switch(place, pairs, lists))
        elif "blockname" in pairs:
            blocks.append(_block(place, pairs, lists))
        elif list(pairs) == ["blocksizes"] and not sizes:
            sizes, sizes_at = _sizes(place, pairs["blocksizes"]), place
        else:
            raise place.error(
                f"{line[:40]!r} is no switch, no block and not the file's one BlockSizes=; begin "
                "it with SwitchName= or BlockName="
            )
    if blocks and switches:
        raise switches[0].place.error(
            "the file has blocks and switches; keep those of one kind, or write a topology.yaml"
        )
    if blocks or sizes:
        return from_blocks(blocks, sizes, sizes_at)
    return from_switches(switches, Place(path))


def _lines(path: Path, text: str) -> Iterator[tuple[Place, str]]:
    """Yield what is left of the lines without comments, those that go on joined."""
    joined, begin = "", 0
    for number, line in enumerate(text.split("\n"), start=1):
        begin = begin or number
        joined += line.partition("#")[0].strip()
        if joined.endswith("\\"):
            joined = joined[:-1].rstrip() + " "
            continue
        if joined.strip():
            yield Place(path, begin), joined.strip()
        joined, begin = "", 0
    if joined.strip():
        yield Place(path, begin), joined.strip()


def _pairs(place: Place, line: str) -> dict[str, str]:
    """Return the values of a line by key in lower case."""
    pairs: dict[str, str] = {}
    end = 0
    while found := _PAIR.match(line, end):
        key, value = found[1], found[2].strip('"')
        if key.lower() not in _KEYS:
            known = "SwitchName, Switches, Nodes, LinkSpeed, BlockName, BlockSizes"
            raise place.bad(key, value, f"no such key here; use one of {known}")
        if key.lower() in pairs:
            raise place.bad(key, value, "stands in this line twice; leave one out")
        pairs[key.lower()] = value
        end = found.end()
    if line[end:].strip():
        raise place.error(f"{line[end:].strip()[:40]!r} is not Key=Value; correct it")
    return pairs


def _switch(place: Place, pairs: dict[str, str], lists: Hostlists) -> Entry:
    _refuse(place, pairs, ("blockname", "blocksizes"))
    nodes, switches = (
        lists.expand(place, key, pairs[key.lower()]) if key.lower() in pairs else []
        for key in ("Nodes", "Switches")
    )
    return Entry(place, pairs["switchname"], nodes, switches)


def _block(place: Place, pairs: dict[str, str], lists: Hostlists) -> Entry:
    _refuse(place, pairs, ("switches", "blocksizes"))
    nodes = lists.expand(place, "Nodes", pairs["nodes"]) if "nodes" in pairs else []
    return Entry(place, pairs["blockname"], nodes)


def _refuse(place: Place, pairs: dict[str, str], others: tuple[str, ...]) -> None:
    for key in others:
        if key in pairs:
            raise place.bad(key, pairs[key], "does not belong into this line; take it out")


def _sizes(place: Place, text: str) -> list[int]:
    words = text.split(",")
    if not all(re.fullmatch("[0-9]{1,9}", word) for word in words):
        raise place.bad("BlockSizes", text, "write numbers of nodes, for example 4,16")
    return [int(word) for word in words]
