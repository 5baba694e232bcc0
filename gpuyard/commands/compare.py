"""``gpuyard compare``: set two results side by side, seed by seed."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what can be asked for."""
    parser.description = (
        "Say how much better each policy is in the second results than in the first, on the seeds "
        "that both have; + is better, * beyond the 95 % interval."
    )
    parser.add_argument("before", type=Path, help="a folder of results, or its results.csv")
    parser.add_argument("after", type=Path, help="another one")
    parser.add_argument(
        "--policy", default="", help="instead of each with itself, all of BEFORE against this one"
    )
    parser.add_argument(
        "--metrics", default="", help="comma separated; those that matter if not given"
    )


def run(options: argparse.Namespace) -> int:
    """Print the tables; return the exit status."""
    from gpuyard.evaluation.between import between
    from gpuyard.evaluation.tables import text

    metrics = [name for name in options.metrics.split(",") if name]
    first, second = (_file(path) for path in (options.before, options.after))
    for heading, table in between(first, second, options.policy, metrics):
        print(f"{heading}\n\n{text(table)}\n")
    return 0


def _file(path: Path) -> Path:
    """Return the file of results that a path stands for."""
    return path / "results.csv" if path.is_dir() else path
