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
        if path.exists() and not path.is_file():
            raise place.error("is no file; give a topology.conf or topology.yaml")
        text = path.read_text("utf-8-sig")
    except OSError as error:
        raise place.error(f"cannot be opened ({error.strerror}); check the path") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise Place(path, line).error("is not UTF-8 text; save it as such") from error
    return (read_document if path.suffix in (".yaml", ".yml") else read_conf)(path, text)
