"""Plays an episode and writes it to files to look at: ``gpuyard render``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from . import film

if TYPE_CHECKING:
    from gpuyard.baselines import Policy
    from gpuyard.envs.scenario import Scenario
    from gpuyard.evaluation.replay.episode import Episode

KINDS = {
    ".html": "a page to look at",
    ".json": "a trace for Perfetto or chrome://tracing",
    ".png": "a picture",
    ".gif": "a moving picture",
    ".mp4": "a film",
}
"""What is written, by the suffix of the file."""
MOVING = {".gif", ".mp4"}
"""Those that are played again, picture by picture."""


def check(paths: Sequence[Path], force: bool) -> None:
    """Refuse files that cannot be written or would be lost.

    Args:
        paths: of the files.
        force: whether what is there may be overwritten.

    Raises:
        ValueError: one is of no kind that is written, is named twice, or is there already.
        ImportError: one is a picture or a film, and what draws it is not installed.
    """
    for path in paths:
        if path.suffix not in KINDS:
            known = ", ".join(f"{suffix} ({what})" for suffix, what in KINDS.items())
            raise ValueError(f"--out {path}: the suffix must be one of {known}")
        if path.exists() and not force:
            raise ValueError(f"--out {path} exists: add --force to overwrite it, or name another")
    if len(set(paths)) < len(paths):
        raise ValueError(f"--out {' '.join(map(str, paths))} names a file twice")
    if any(path.suffix == ".png" for path in paths):
        from gpuyard.evaluation.replay.picture import require

        require()
    for suffix in {path.suffix for path in paths} & MOVING:
        film.require(suffix)


def render(
    scenario: Scenario, name: str, policy: Policy, seed: int, paths: Sequence[Path]
) -> Iterator[str]:
    """Play one episode, write it to every path, and yield a line on each.

    Args:
        scenario: the world.
        name: of the policy, to be shown.
        policy: for all decisions of the scenario.
        seed: of the episode.
        paths: files that :func:`check` accepts; folders are made.
    """
    from gpuyard.evaluation.replay.recorder import play

    still = [path for path in paths if path.suffix not in MOVING]
    episode = play(name, policy, scenario, seed) if still else None
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        if episode is None or path.suffix in MOVING:
            end_s = film.save(scenario, policy, seed, path)
        else:
            end_s = episode.end_s
            _write(episode, path)
        size_kb = path.stat().st_size / 1e3
        yield f"saved {path}: {KINDS[path.suffix]}, {size_kb:,.0f} kB, {end_s:,.0f} s"


def _write(episode: Episode, path: Path) -> None:
    if path.suffix == ".html":
        from gpuyard.evaluation.replay.page import page

        path.write_text(page(episode), encoding="utf-8")
    elif path.suffix == ".json":
        from gpuyard.evaluation.replay.trace import trace

        path.write_text(trace(episode), encoding="utf-8")
    else:
        from gpuyard.evaluation.replay.picture import save

        save(episode, path)
