"""``gpuyard render``: play one episode and write it as a page, a trace or a picture."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what can be asked for."""
    parser.description = (
        "Play one episode with a policy and write it as one HTML page (.html), a trace for "
        "Perfetto (.json), a picture (.png), a moving one (.gif) or a film (.mp4)."
    )
    parser.add_argument("scenario", help="a scenario's name or file")
    parser.add_argument(
        "--policy",
        required=True,
        help="a name (perhaps with options), module:Class, a tuned policy (.json), a model "
        "(.safetensors)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the episode (default: 0)")
    parser.add_argument(
        "--out", type=Path, nargs="+", default=[Path("episode.html")], help="files to write"
    )
    parser.add_argument("--force", action="store_true", help="overwrite them")


def run(options: argparse.Namespace) -> int:
    """Play and write; return the exit status."""
    from gpuyard.envs.scenario import load

    from .choosing import policy
    from .episode_files import check, render

    check(options.out, options.force)
    scenario, player = load(options.scenario), policy(options.policy)
    for line in render(scenario, options.policy, player, options.seed, options.out):
        print(line)
    return 0
