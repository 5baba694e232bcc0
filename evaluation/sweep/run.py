"""Play the tasks of a sweep, whoever plays them, and go on where an earlier run was cut short."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import BrokenExecutor, as_completed
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..rollout import Rollout
from .executors import executor
from .store import Store
from .task import Task, World, play

CHUNK = 16
"""Seeds per task: one batch of :func:`..rollout.rollout`. It does not follow from the number of
processes, so that a policy that draws, which is seeded once per task, gives the same results with
any number of them."""

DEATHS = 3
"""Times in a row that all workers may be lost before any task was finished."""


def tasks_of(
    worlds: Sequence[World],
    policies: dict[str, str],
    seeds: Sequence[int],
    env_id: str = "",
    chunk: int = CHUNK,
) -> list[Task]:
    """Return a task for each world, policy and chunk of seeds.

    Args:
        worlds: where.
        policies: their names and paths, by what to show.
        seeds: of the episodes.
        env_id: the environment; empty: for each world the one for its decisions.
        chunk: seeds per task.
    """
    paths = {  # other processes may stand elsewhere
        shown: str(Path(name).resolve()) if Path(name).is_file() else name
        for shown, name in policies.items()
    }
    chunks = [tuple(map(int, seeds[i : i + chunk])) for i in range(0, len(seeds), chunk)]
    return [
        Task(world, policy, shown, some, env_id)
        for world in worlds
        for shown, policy in paths.items()
        for some in chunks
    ]


def sweep(
    tasks: Sequence[Task],
    folder: Path | None = None,
    processes: int = 1,
    kind: str = "local",
    quiet: bool = False,
    optional: Collection[str] = (),
) -> list[Rollout]:
    """Play tasks and return a rollout per world and policy, in their order.

    Args:
        tasks: each once.
        folder: where finished tasks are kept, and those of an earlier run found; None: nowhere.
        processes: that play; with one of this machine this process does.
        kind: of executor, see :mod:`.executors`.
        quiet: do not report progress on stderr.
        optional: policies, as shown, that are left out with a message where they refuse a world.

    Raises:
        ValueError: another policy refuses its world.
        ChildProcessError: workers die of every task.
    """
    store = Store(folder)
    done = {task: found for task in tasks if (found := store.load(task)) is not None}
    left = [task for task in tasks if task not in done]
    if done and not quiet:
        print(f"{len(done)} of {len(tasks)} tasks were done before", file=sys.stderr)
    alone = kind == "local" and min(processes, len(left)) < 2
    try:
        for task, played in _one_by_one(left) if alone else _played(left, processes, kind):
            if isinstance(played, ValueError):
                if task.shown not in optional:
                    raise played
                print(f"{task.world.name}: {task.shown} left out: {played}", file=sys.stderr)
                continue
            store.save(task, played)
            done[task] = played
            if not quiet:
                print(f"{len(done)}/{len(tasks)} {task.world.name}: {task.shown}", file=sys.stderr)
    except KeyboardInterrupt:
        if folder is not None and not quiet:
            kept = f"{len(done)} of {len(tasks)} tasks are kept in {folder}"
            print(f"{kept}: the same command goes on from there", file=sys.stderr)
        raise
    return _joined([done[task] for task in tasks if task in done])


Outcome = tuple[Task, Rollout | ValueError]
"""A task and what it gave, or why its policy refused the world."""


def _one_by_one(tasks: Sequence[Task]) -> Iterator[Outcome]:
    for task in tasks:
        played: Rollout | ValueError
        try:
            played = play(task)
        except ValueError as error:
            played = error
        yield task, played


def _played(tasks: Sequence[Task], processes: int, kind: str) -> Iterator[Outcome]:
    """Yield tasks as they are finished; those of a worker that was lost are played again."""
    left, deaths = dict.fromkeys(tasks), 0
    while left:
        before = len(left)
        pool = executor(kind, min(processes, len(left)))
        try:
            futures = {pool.submit(play, task): task for task in left}
            for future in as_completed(futures):
                played: Rollout | ValueError
                try:
                    played = future.result()
                except BrokenExecutor:  # a worker is gone, and with it the pool
                    continue
                except ValueError as error:
                    played = error
                del left[futures[future]]
                yield futures[future], played
        finally:
            pool.shutdown(cancel_futures=True)
        deaths = deaths + 1 if len(left) == before else 0
        if left and deaths == DEATHS:
            first = next(iter(left))
            raise ChildProcessError(
                f"workers were lost {DEATHS} times without a task finished, the first of them "
                f"{first.world.name}: {first.shown}; memory may be short: give fewer --processes"
            )


def _joined(parts: Sequence[Rollout]) -> list[Rollout]:
    """Return the parts of each world and policy as one rollout."""
    groups: dict[tuple[str, str], list[Rollout]] = {}
    for part in parts:
        groups.setdefault((part.scenario, part.policy), []).append(part)
    return [group[0] if len(group) == 1 else _chained(group) for group in groups.values()]


def _chained(group: Sequence[Rollout]) -> Rollout:
    seeds = np.concatenate([part.seeds for part in group])
    keys = dict.fromkeys(key for part in group for key in part.metrics)
    metrics = {
        key: np.concatenate([p.metrics.get(key, np.full(len(p.seeds), np.nan)) for p in group])
        for key in keys
    }
    times_s = {key: np.concatenate([p.times_s[key] for p in group]) for key in group[0].times_s}
    return replace(group[0], seeds=seeds, metrics=metrics, times_s=times_s)
