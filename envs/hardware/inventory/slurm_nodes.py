"""Slurm's nodes, as ``scontrol show node`` or ``sinfo`` with a column GRES prints them.

Source: the manual pages of scontrol and sinfo (Slurm 24.05). ``Gres=gpu:h100:8(S:0-1)`` is 8 GPUs
of type h100; a node may have several entries. Nodes that are down, drained or failing are left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from ..topology.entry import Hostlists, Place
from .nodes import Inventory, Node, inventory
from .products import by_product

_GRES = re.compile(r"(?:^|,)gpu(?::([A-Za-z][\w.-]*))?:(\d{1,5})(?=\(|,|$)")
_FIELD = re.compile(r"(?:^|\s)(NodeName|Gres|State)=(\S*)")
AWAY = ("DOWN", "DRAIN", "FAIL", "NOT_RESPONDING", "POWERED_DOWN", "FUTURE")


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
    for line, name, gres, state in rows:
        here = Place(path, line)
        for each in names.expand(here, "node", name):
            if each in seen:  # sinfo prints a node once for each of its partitions
                continue
            seen.add(each)
            _add(nodes, left_out, here, each, gres, state)
    return inventory(nodes, str(path), left_out)


def _add(
    nodes: list[Node],
    left_out: dict[str, list[str]],
    place: Place,
    name: str,
    gres: str,
    state: str,
) -> None:
    """Count a node, or why it is left out."""
    if any(word in state.upper() for word in AWAY):
        left_out.setdefault("down, drained or failing", []).append(name)
        return
    found = _GRES.findall(gres)
    types = {kind for kind, _ in found}
    if len(types) > 1:
        raise place.bad("Gres", gres, "a node has GPUs of one type only; leave the node out")
    gpus = sum(int(count) for _, count in found)
    if gpus:
        (product,) = types
        nodes.append(Node(name, product, by_product(product), gpus))
    else:
        left_out.setdefault("without GPUs", []).append(name)


def _of_scontrol(lines: list[str]) -> Iterator[tuple[int, str, str, str]]:
    """Yield line, name, Gres and state of each record, on one line or on several."""
    here: dict[str, str] = {}
    start = 0
    for number, line in enumerate([*lines, "NodeName="], start=1):
        fields = dict(_FIELD.findall(line))
        if "NodeName" in fields:
            if here.get("NodeName"):
                yield start, here["NodeName"], here.get("Gres", ""), here.get("State", "")
            here, start = {}, number
        here |= fields


def _of_sinfo(path: Path, lines: list[str]) -> Iterator[tuple[int, str, str, str]]:
    """Yield line, name, GRES and state of each row below a heading."""
    numbered = [(n, line.split()) for n, line in enumerate(lines, start=1) if line.strip()]
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
        yield number, row[names], row["GRES"], row.get("STATE", "")
