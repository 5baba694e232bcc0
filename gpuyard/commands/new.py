"""``gpuyard new``: a commented scenario to start from."""

from __future__ import annotations

import argparse
from pathlib import Path

KINDS = ("routing", "placement", "cluster")
"""The keys of ``gpuyard.envs.scenario.template.KINDS``, which a help text need not load the engine
for; a test compares them."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what can be asked for."""
    parser.description = "Write a scenario with every field, its default and what it means."
    parser.add_argument("file", type=Path, help="the file to write, for example mine.toml")
    parser.add_argument(
        "--kind",
        choices=KINDS,
        default=KINDS[0],
        help="route requests to replicas, place gangs on a cluster, or both (default: %(default)s)",
    )
    parser.add_argument("--force", action="store_true", help="overwrite the file")


def run(options: argparse.Namespace) -> int:
    """Write it; return the exit status."""
    from gpuyard.envs.scenario.template import template

    path: Path = options.file
    if path.suffix != ".toml":
        raise ValueError(f"{path}: a scenario file ends with .toml")
    if path.exists() and not options.force:
        raise ValueError(f"{path} exists: add --force to overwrite it, or name another")
    path.write_text(template(options.kind), encoding="utf-8")
    print(f"saved {path}; try it: gpuyard check {path} && gpuyard evaluate --scenarios {path}")
    return 0
