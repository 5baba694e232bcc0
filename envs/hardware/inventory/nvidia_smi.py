"""One machine, as ``nvidia-smi topo -m`` prints it: how its GPUs and NICs reach each other.

Source: the legend that nvidia-smi prints: ``NV#`` is a bonded set of # NVLinks, ``PIX`` to ``SYS``
are ways over PCIe and the sockets.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ..topology.entry import Place

WAYS = ("X", "PIX", "PXB", "PHB", "NODE", "SYS", "SOC")
"""``SOC`` is what drivers before 384 call ``SYS``."""

_CODES = re.compile(r"\x1b?\[[0-9;]*m")  # copied from a screen they may have lost their escape
_GPU = re.compile(r"GPU\d+$")


@dataclass(frozen=True)
class Machine:
    """What the matrix shows.

    Attributes:
        gpus: how many.
        nics: how many.
        nvlinks: of the pair of GPUs with the fewest; 0: some pair has none.
        bridged: GPUs have NVLinks to some others only.
    """

    gpus: int
    nics: int
    nvlinks: int
    bridged: bool


def read_matrix(path: str | Path) -> Machine:
    """Return the machine of a matrix.

    Raises:
        ValueError: naming file, line, value and remedy.
    """
    path = Path(path)
    place = Place(path)
    text = place.text()
    lines = [_CODES.sub("", line).split() for line in text.splitlines()]
    at = next((n for n, words in enumerate(lines) if words and words[0] == "GPU0"), None)
    if at is None:
        raise place.error("has no heading with GPU0; save what nvidia-smi topo -m prints")
    heading = lines[at]
    end = next((n for n, word in enumerate(heading) if word in ("CPU", "NUMA")), len(heading))
    names = heading[:end]  # of GPUs and NICs: NIC0, mlx5_0, mlx5_bond_0, rocep1s0, ...
    rows = {}
    for number, words in enumerate(lines[at + 1 :], start=at + 2):
        if words and words[0] in names:
            rows[words[0]] = _ways(Place(path, number), words, len(names))
    gpus = [name for name in names if _GPU.match(name)]
    for name in gpus:
        if name not in rows:
            raise place.error(f"has no row of {name}; save the whole matrix")
    pairs = [rows[one][names.index(other)] for i, one in enumerate(gpus) for other in gpus[i + 1 :]]
    links = [int(way[2:]) if way.startswith("NV") else 0 for way in pairs]
    fewest = min(links, default=0)
    return Machine(len(gpus), len(names) - len(gpus), fewest, bool(links) and max(links) > fewest)


def _ways(place: Place, words: list[str], count: int) -> list[str]:
    """Return the cells of a device's row."""
    cells = words[1 : count + 1]
    if len(cells) < count:
        raise place.bad("row", " ".join(words), f"give {count} cells")
    for cell in cells:
        if cell not in WAYS and not re.fullmatch(r"NV\d{1,2}", cell):
            raise place.bad(words[0], cell, f"use NV# or one of {', '.join(WAYS)}")
    return cells
