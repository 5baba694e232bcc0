"""What one task of a sweep plays: plain text and numbers, so that any process can be told it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

import gpuyard
from gpuyard.commands.choosing import policy as policy_of
from gpuyard.commands.choosing import sources
from gpuyard.envs.scenario import Scenario, from_dict

from ..rollout import Rollout, rollout

SOURCES = (".py", ".toml", ".csv")
"""Files of the package that its numbers follow from."""


@dataclass(frozen=True)
class Trace:
    """A trace or job list, and how to read it; ``columns`` are pairs of a mapping."""

    path: str
    format: str
    columns: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, path: Path, format: str, columns: Mapping[str, str]) -> Trace:
        """Return the trace of a file."""
        return cls(str(path.resolve()), format, tuple(columns.items()))


@dataclass(frozen=True)
class World:
    """A scenario as it can be told to another process.

    Attributes:
        name: to show.
        table: the tables of its file, as JSON.
        folder: where relative paths in them start.
        trace: what replaces its work; None: nothing.
    """

    name: str
    table: str
    folder: str
    trace: Trace | None = None

    @classmethod
    def of(
        cls, name: str, table: dict[str, Any], folder: Path, trace: Trace | None = None
    ) -> World:
        """Return the world of a scenario's tables."""
        return cls(name, json.dumps(table), str(folder.resolve()), trace)

    def scenario(self) -> Scenario:
        """Return the scenario.

        Raises:
            ScenarioError: the tables are none.
            TraceError: the trace is none.
        """
        scenario = from_dict(json.loads(self.table), self.name, Path(self.folder))
        if self.trace is None:
            return scenario
        return scenario.with_trace(self.trace.path, self.trace.format, dict(self.trace.columns))


@dataclass(frozen=True)
class Task:
    """Some episodes of one policy in one world.

    Attributes:
        world: where.
        policy: its name, or the path of its file.
        shown: the policy's name in results.
        seeds: of the episodes. A policy that draws is seeded once for all of them.
        env_id: the environment; empty: the one for the world's decisions.
    """

    world: World
    policy: str
    shown: str
    seeds: tuple[int, ...]
    env_id: str = ""

    def key(self) -> str:
        """Return what tells its result from all others: what is played, on which files and code."""
        world = {k: v for k, v in asdict(self.world).items() if k != "name"}
        named = list(_texts(json.loads(self.world.table)))
        if self.world.trace is not None:
            named.append(self.world.trace.path)
        paths = [Path(self.world.folder, text) for text in named if 0 < len(text) < 1000]
        paths += (path.resolve() for path in sources(self.policy))
        files = {
            str(path): _digest(str(path), path.stat().st_mtime_ns) for path in paths if _is(path)
        }
        told = [code(), world, self.policy, self.seeds, self.env_id, files]
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:32]


def play(task: Task) -> Rollout:
    """Play a task; the result depends on nothing but the task."""
    seeds = np.array(task.seeds, np.int64)
    world, policy = _scenario(task.world), policy_of(task.policy)
    return rollout(task.shown, policy, world, seeds, task.env_id)


@lru_cache(maxsize=4)
def _scenario(world: World) -> Scenario:
    """Return the scenario of a world: tasks of one world tend to follow each other."""
    return world.scenario()


@lru_cache(maxsize=1)
def code() -> str:
    """Return a digest of the package's sources: other code may give other numbers."""
    digest = hashlib.sha256()
    for folder, inner, names in os.walk(Path(gpuyard.__file__).parent, followlinks=True):
        inner.sort()
        for name in sorted(names):
            if name.endswith(SOURCES):
                digest.update(f"{name}\0".encode() + Path(folder, name).read_bytes())
    return digest.hexdigest()


def _texts(value: Any) -> Iterator[str]:
    """Yield the texts in a table: some of them name files."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner)


def _is(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a text that is no path
        return False


@lru_cache
def _digest(path: str, changed_ns: int) -> str:
    """Return the digest of a file as it was at that time."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
