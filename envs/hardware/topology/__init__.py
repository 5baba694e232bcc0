"""Clusters as Slurm has them: ``topology.conf`` and ``topology.yaml``."""

from __future__ import annotations

from pathlib import Path

from .conf import read_conf
from .document import read_document
from .entry import Place
from .tree import Topology

__all__ = ["Topology", "read"]


def read(path: str | Path) -> Topology:
    """Return the topology that a file describes: YAML by the ending of its name, else a conf.

    Raises:
        ValueError: naming file, line, key, value and remedy.
    """
    path = Path(path)
    place = Place(path)
    try:
        is_other = path.exists() and not path.is_file()
    except OSError as error:
        raise place.error(f"cannot be opened ({error.strerror}); check the path") from error
    if is_other:
        raise place.error("is no file; give a topology.conf or topology.yaml")
    text = place.text()
    return (read_document if path.suffix in (".yaml", ".yml") else read_conf)(path, text)
