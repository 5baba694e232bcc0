"""The console command ``gpuyard``: one table of subcommands, each in a module of its own.

A subcommand's module in :mod:`gpuyard.commands` has ``add_arguments(parser)`` and ``run(options)``,
and is loaded only when its name was typed, so that listing names costs no torch, numba or plots.
"""

from __future__ import annotations

import argparse
import codecs
import importlib
import io
import os
import sys
from collections.abc import Sequence
from typing import Any, TextIO

from gymnasium.error import Error as GymnasiumError

from gpuyard import __version__

COMMANDS = {
    "list": ("listing", "names of scenarios, baselines, GPUs, models, clusters, engines, formats"),
    "show": ("show", "one of these: fields, options, sources and how far they are to be trusted"),
    "new": ("new", "a commented scenario to start from"),
    "import": (
        "importing",
        "a scenario from files of Slurm, Kubernetes, nvidia-smi or Hugging Face",
    ),
    "check": ("check", "whether scenarios can be played, and what they are made of"),
    "train": ("train", "train an agent, then compare it with all baselines"),
    "evaluate": ("evaluate", "compare policies on scenarios or on a trace"),
    "whatif": ("whatif", "other fleets: the smallest one that meets an objective"),
    "compare": ("compare", "set two results side by side, seed by seed"),
    "render": ("render", "play one episode and write it as a page, a trace, a picture or a film"),
    "tune": ("tune", "search the options of a policy, or the weights of a linear score"),
    "deploy": ("deploy", "search what the machines of a scenario should run"),
    "profile": ("profiling", "fit a replica to measurements, or measure an endpoint first"),
    "warmup": ("warmup", "compile the engine ahead of its first use"),
}
"""Subcommands by name: the module in :mod:`gpuyard.commands`, and a line on what it does."""

USER_ERRORS = (ValueError, KeyError, OSError, ImportError, GymnasiumError)
"""What bad input raises; anything else is a bug and keeps its traceback."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit status.

    Bad input ends with one line on stderr. With ``GPUYARD_DEBUG=1`` it raises instead.
    """
    _degrade(sys.stdout)
    _degrade(sys.stderr)
    given = sys.argv[1:] if arguments is None else list(arguments)
    top = parser(given)
    options = top.parse_args(given)
    if options.command is None:
        top.print_help(sys.stderr)
        return 2
    try:
        return _module(options.command).run(options)
    except KeyboardInterrupt:
        print("gpuyard: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read the output has gone: gpuyard list | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except USER_ERRORS as error:
        if os.environ.get("GPUYARD_DEBUG"):
            raise
        message = error.args[0] if isinstance(error, KeyError) and error.args else error
        if isinstance(error, OSError) and error.strerror and error.filename:
            message = f"{error.filename}: {error.strerror}"
        if isinstance(error, ImportError) and "install" not in str(error):
            message = f"{error}; pip install 'gpuyard[train]'"
        print(f"gpuyard {options.command}: error: {message}", file=sys.stderr)
        return 2


def parser(given: Sequence[str] = ()) -> argparse.ArgumentParser:
    """Return the parser of all subcommands, with the arguments of the one that was given."""
    top = argparse.ArgumentParser(
        prog="gpuyard",
        description="A Gymnasium world of GPU clusters.",
        epilog="gpuyard COMMAND --help says more. GPUYARD_DEBUG=1 shows where an error is from.",
    )
    top.add_argument("--version", action="version", version=f"gpuyard {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND")
    chosen = next((word for word in given if not word.startswith("-")), None)
    for name, (_, meaning) in COMMANDS.items():
        sub = commands.add_parser(name, help=meaning)
        if name == chosen:
            sub.description = f"{meaning[0].upper()}{meaning[1:]}."
            _module(name).add_arguments(sub)
    return top


def _module(command: str) -> Any:
    return importlib.import_module(f"gpuyard.commands.{COMMANDS[command][0]}")


def _degrade(stream: TextIO) -> None:
    """Have a terminal that lacks a sign show a plain one instead of failing."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="gpuyard.plain")


def _plain(error: UnicodeError) -> tuple[str, int]:
    """Stand in for signs that an encoding lacks."""
    assert isinstance(error, UnicodeEncodeError)
    text = error.object[error.start : error.end]
    return "".join(PLAIN.get(sign, "?") for sign in text), error.end


PLAIN = {"±": "+-", "×": "x", "–": "-", "—": "-", "µ": "u", "…": "..."}
codecs.register_error("gpuyard.plain", _plain)
