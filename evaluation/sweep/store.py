"""Finished tasks on disk: one file each, so that a sweep that was cut short goes on.

A file comes into being whole: it is written beside its place, brought to disk and then renamed.
"""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from ..rollout import Rollout
from .task import Task


class Store:
    """The finished tasks of a folder.

    Args:
        folder: of the results; None: nothing is kept.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = None if folder is None else folder / "tasks"

    def load(self, task: Task) -> Rollout | None:
        """Return what a task gave; None if it has not been finished."""
        if self._folder is None:
            return None
        try:
            with np.load(self._path(self._folder, task), allow_pickle=False) as file:
                parts = [
                    (*names, file[f"a{i}"]) for i, names in enumerate(json.loads(str(file["of"])))
                ]
        except (FileNotFoundError, zipfile.BadZipFile, EOFError, ValueError, KeyError):
            return None  # missing, or damaged by something else: it is done again
        played = Rollout(task.shown, task.world.name, np.array(task.seeds, np.int64), {})
        for kind, name, column, values in parts:
            if kind == "metrics":
                played.metrics[name] = values
            elif kind == "times_s":
                played.times_s[name] = values
            else:
                played.first.setdefault(name, {})[column] = values
        return played

    def save(self, task: Task, played: Rollout) -> None:
        """Keep what a task gave."""
        if self._folder is None:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        parts = [
            *(("metrics", name, "", values) for name, values in played.metrics.items()),
            *(("times_s", name, "", values) for name, values in played.times_s.items()),
            *(
                ("first", t, name, v)
                for t, table in played.first.items()
                for name, v in table.items()
            ),
        ]
        arrays: dict[str, Any] = {
            f"a{i}": np.asarray(values) for i, (*_, values) in enumerate(parts)
        }
        path = self._path(self._folder, task)
        beside = path.with_suffix(f".{os.getpid()}")
        with beside.open("wb") as file:
            np.savez(file, of=np.array(json.dumps([part[:3] for part in parts])), **arrays)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)

    @staticmethod
    def _path(folder: Path, task: Task) -> Path:
        return folder / f"{task.key()}.npz"
