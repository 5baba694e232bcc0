"""Files that are there whole or not at all, also after a crash, and that run no code when read."""

from __future__ import annotations

import csv
import io
import json
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

_TREE = "tree.json"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield where to write a file that takes the place of ``path`` when it is complete.

    It reaches the disk before it gets its name, so that no crash leaves half of it.
    """
    unfinished = path.with_name(f"unfinished-{path.name}")
    yield unfinished
    _sync(unfinished)
    os.replace(unfinished, path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    """Have the system bring a file, or the names in a folder, to the disk."""
    if os.name == "nt" and path.is_dir():
        return  # folders cannot be opened there
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file, whole or not at all."""
    with replacing(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8", newline="")


def rows_of(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file, without a last line that was cut off; there may be none."""
    if not path.exists():
        return []
    whole = path.read_text(encoding="utf-8").rpartition("\n")[0]
    return list(csv.DictReader(io.StringIO(whole)))


def save_tree(file: zipfile.ZipFile, tree: Any) -> None:
    """Add plain values to a zip file: dicts, lists, tuples, numbers, text, arrays.

    Arrays are ``.npy`` files, everything else is JSON: what is read back can be nothing else.
    """
    arrays: list[np.ndarray] = []
    file.writestr(_TREE, json.dumps(_packed(tree, arrays)))
    for number, array in enumerate(arrays):
        with file.open(f"{number}.npy", "w") as entry:
            np.lib.format.write_array(entry, array, allow_pickle=False)


def load_tree(file: zipfile.ZipFile) -> Any:
    """Return what :func:`save_tree` added.

    Raises:
        ValueError, KeyError, BadZipFile: the file is damaged or of another kind.
    """
    return _unpacked(json.loads(file.read(_TREE)), file)


def _packed(value: Any, arrays: list[np.ndarray]) -> Any:
    if isinstance(value, np.ndarray):
        arrays.append(value)
        return {"array": len(arrays) - 1}
    if isinstance(value, dict):
        return {"dict": {key: _packed(item, arrays) for key, item in value.items()}}
    if isinstance(value, (list, tuple)):
        kind = "list" if isinstance(value, list) else "tuple"
        return {kind: [_packed(item, arrays) for item in value]}
    return value.item() if isinstance(value, np.generic) else value


def _unpacked(value: Any, file: zipfile.ZipFile) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, item),) = value.items()
    if kind == "array":
        with file.open(f"{item}.npy") as entry:
            return np.lib.format.read_array(io.BytesIO(entry.read()), allow_pickle=False)
    if kind == "dict":
        return {key: _unpacked(inner, file) for key, inner in item.items()}
    items = [_unpacked(inner, file) for inner in item]
    return items if kind == "list" else tuple(items)
