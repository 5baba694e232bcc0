"""Slurm's nodes, as ``scontrol show node`` or ``sinfo`` with a column GRES prints them.

Source: the manual pages of gres.conf, scontrol and sinfo (Slurm 24.05). ``Gres=gpu:h100:8(S:0-1)``
is 8 GPUs of type h100, ``gpu`` alone is one; a node may have several entries, of which shares of
GPUs (``shard``, ``mps``) count nothing. A type that Gres leaves out may stand in ``CfgTRES``. Nodes
that are down, drained, failing or in maintenance are left out, and those with MIG slices or GPUs of
several types.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from ..topology.entry import Hostlists, Place
from .nodes import Inventory, Node, inventory
from .products import by_product

_GRES = re.compile(
    r"(?:^|,)gpu(?::(?!no_consume\b|\d+(?:\(|,|$))([\w.-]+))?(?::no_consume)?(?::(\d{1,5}))?(?=\(|,|$)"
)
_TRES = re.compile(r"(?:^|,)gres/gpu:([\w.-]+)=(\d{1,5})(?=,|$)")
_FIELD = re.compile(r"(?:^|\s)(NodeName|Gres|State|CfgTRES)=(\S*)")
_SLICE = re.compile(r"(?:^|[_.-])\d+g\.\d+gb", re.IGNORECASE)
AWAY = ("DOWN", "DRAIN", "DRNG", "FAIL", "NOT_RESPONDING", "FUTURE", "MAINT", "UNK")
"""In states of nodes, long as of scontrol or short as of sinfo."""


def read_nodes(path: str | Path) -> Inventory:
    """Return the nodes with GPUs.

    Raises:
        ValueError: naming file, line, value and remedy.
    """
    path = Path(path)
    place = Place(path)
    lines = place.text().splitlines()
    first = next((line for line in lines if line.strip()), "")
    rows = _of_scontrol(lines) if "NodeName=" in first else _of_sinfo(path, lines)
    nodes: list[Node] = []
    left_out: dict[str, list[str]] = {}
    names = Hostlists()
    seen: set[str] = set()
    for line, name, gres, state, tres in rows:
        here = Place(path, line)
        for each in names.expand(here, "node", name):
            if each in seen:  # sinfo prints a node once for each of its partitions
                continue
            seen.add(each)
            _add(nodes, left_out, each, gres, state, tres)
    return inventory(nodes, str(path), left_out)


def _add(
    nodes: list[Node],
    left_out: dict[str, list[str]],
    name: str,
    gres: str,
    state: str,
    tres: str,
) -> None:
    """Count a node, or why it is left out."""
    found = [(kind, int(count or 1)) for kind, count in _GRES.findall(gres)]
    if {kind for kind, _ in found} <= {""}:
        found = [(kind, int(count)) for kind, count in _TRES.findall(tres)] or found
    types = {kind for kind, count in found if count}
    if any(word in state.upper() for word in AWAY) or state.endswith("*"):
        why = "down, drained, failing or in maintenance"
    elif any(_SLICE.search(kind) for kind in types):
        why = "with GPUs cut into MIG slices"
    elif len(types) > 1:
        why = "with GPUs of several types"
    elif not types:
        why = "without GPUs"
    else:
        (product,) = types
        gpus = sum(count for _, count in found)
        nodes.append(Node(name, product, by_product(product), gpus))
        return
    left_out.setdefault(why, []).append(name)


def _of_scontrol(lines: list[str]) -> Iterator[tuple[int, str, str, str, str]]:
    """Yield line, name, Gres, state and CfgTRES of each record, on one line or on several."""
    here: dict[str, str] = {}
    start = 0
    for number, line in enumerate([*lines, "NodeName="], start=1):
        fields = dict(_FIELD.findall(line))
        if "NodeName" in fields:
            if here.get("NodeName"):
                gres, state, tres = (here.get(key, "") for key in ("Gres", "State", "CfgTRES"))
                yield start, here["NodeName"], gres, state, tres
            here, start = {}, number
        here |= fields


def _of_sinfo(path: Path, lines: list[str]) -> Iterator[tuple[int, str, str, str, str]]:
    """Yield line, name, GRES, state and nothing of each row below a heading.

    Between columns are blanks, or `|` where the heading has some.
    """
    bar = "|" if any("|" in line for line in lines[:1]) else None
    numbered = [
        (n, [word.strip() for word in line.strip().rstrip("|").split(bar)])
        for n, line in enumerate(lines, start=1)
        if line.strip()
    ]
    heading = [word.upper() for word in numbered[0][1]] if numbered else []
    names = next((word for word in ("NODELIST", "HOSTNAMES", "NODE_HOST") if word in heading), "")
    if not names or "GRES" not in heading:
        raise Place(path, 1).error(
            "is neither what `scontrol show node` prints nor `sinfo` with columns NODELIST and "
            'GRES; try: sinfo -N -o "%N %G %T"'
        )
    for number, words in numbered[1:]:
        if len(words) != len(heading):
            remedy = f"give a value for each of {', '.join(heading)}"
            raise Place(path, number).bad("row", " ".join(words), remedy)
        row = dict(zip(heading, words, strict=True))
        yield number, row[names], row["GRES"], row.get("STATE", ""), ""
