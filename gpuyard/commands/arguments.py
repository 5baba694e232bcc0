"""What several subcommands ask for alike."""

from __future__ import annotations

import argparse
from pathlib import Path


class Defaults(argparse.ArgumentDefaultsHelpFormatter):
    """Help that says defaults, where there is one and the text does not say it already."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default in (None, False, "", {}) or "(default" in (action.help or ""):
            return action.help
        return super()._get_help_string(action)


def positive(text: str) -> int:
    """Return a whole number above 0."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def add_executor(parser: argparse.ArgumentParser) -> None:
    """Ask who plays."""
    parser.add_argument(
        "--processes", type=positive, default=1, help="that play (default: %(default)s)"
    )
    parser.add_argument(
        "--executor",
        choices=("local", "ray"),
        default="local",
        help="of this machine, or of a Ray cluster (RAY_ADDRESS; default: %(default)s)",
    )


def add_trace(parser: argparse.ArgumentParser) -> None:
    """Ask for a trace and how to read it."""
    parser.add_argument(
        "--trace", type=Path, help="trace of requests, or job list, to play instead"
    )
    parser.add_argument("--format", default="auto", help="of the trace (default: auto)")
    parser.add_argument(
        "--columns",
        type=columns,
        default={},
        metavar="NAME=THEIRS,...",
        help="the trace's names of columns: arrival_s=time,prompt_tokens=in,output_tokens=out",
    )


def columns(text: str) -> dict[str, str]:
    """Return the mapping that ``name=theirs,...`` stands for."""
    found: dict[str, str] = {}
    for part in text.split(","):
        name, equals, theirs = (piece.strip() for piece in part.partition("="))
        if not (name and equals and theirs):
            raise argparse.ArgumentTypeError(f"{part!r} must be NAME=THEIRS, like arrival_s=time")
        if name in found:
            raise argparse.ArgumentTypeError(f"{name} is given twice")
        found[name] = theirs
    return found


def out_folder(given: Path | None, usual: Path, force: bool) -> Path:
    """Return the folder of results: the given one, or the usual one, else the next that is free.

    Args:
        given: what was asked for; None: nothing.
        usual: the default.
        force: results there may be overwritten.

    Raises:
        ValueError: the given folder has results, and they may not be overwritten.
    """
    if given is not None:
        if holds_results(given) and not force:
            raise ValueError(f"--out {given} has results: add --force to overwrite them")
        return given
    folder, number = usual, 1
    while holds_results(folder) and not force:
        number += 1
        folder = usual.with_name(f"{usual.name}-{number}")
    return folder


def holds_results(folder: Path) -> bool:
    """Tell whether results stand in a folder."""
    return (folder / "results.csv").exists()
