"""``gpuyard show``: one entry of a list, with its fields, sources and how far they are trusted."""

from __future__ import annotations

import argparse
import inspect
import shutil
import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what can be asked for."""
    parser.add_argument(
        "kind",
        type=lambda text: text[:-1] if text[:-1] in KINDS else text,  # as list says them, too
        choices=KINDS,
        help="what to show",
    )
    parser.add_argument(
        "name", help="as gpuyard list prints it; a scenario's file or a model's config.json will do"
    )


def run(options: argparse.Namespace) -> int:
    """Print it; return the exit status."""
    print(KINDS[options.kind](options.name))
    return 0


def model(name: str) -> str:
    """Return a model of the catalogue, or of the path of a ``config.json``."""
    from .hardware_text import model as text

    return text(name)


def gpu(name: str) -> str:
    """Return a GPU of the catalogue."""
    from .hardware_text import gpu as text

    return text(name)


def scenario(name: str) -> str:
    """Return a scenario: its file, and what it is computed from."""
    from gpuyard.envs.scenario import load
    from gpuyard.envs.scenario.read import read_table
    from gpuyard.evaluation.report import sources
    from gpuyard.evaluation.tables import text

    world, (_, path) = load(name), read_table(name)
    decides = ", ".join(sorted(world.decisions))
    lines = [f"{world.name}: {world.description}", f"decisions: {decides}", f"file: {path}", ""]
    return "\n".join([*lines, Path(path).read_text("utf-8"), text(sources(world))])


def baseline(name: str) -> str:
    """Return a policy: what it does, its source, and its options."""
    from gpuyard.baselines import described

    entry = described(name)
    kinds = ", ".join(entry.decides) or "what its options say"
    lines = [entry.name, f"decides {kinds}", "", entry.text]
    if entry.options:
        example = f"{name}?{entry.options[0].name}={entry.options[0].default or '...'}"
        lines += ["", f"Options, written into the name ({example}):"]
        width = max(len(option.name) for option in entry.options)
        for option in entry.options:
            given = f"default {option.default}" if option.default else "must be given"
            lines.append(f"  {option.name:<{width}}  {option.accepts}; {given}")
    return "\n".join(lines)


def cluster(name: str) -> str:
    """Return a named cluster: pools, fabric, source."""
    from gpuyard.envs.hardware.clusters import blueprint

    found = blueprint(name)
    lines = [name, *_wrapped(found.source), ""]
    for pool in found.pools:
        lines.append(
            f"{pool.nodes} nodes x {pool.gpus_per_node} {pool.gpu.name}, {pool.nics_per_node} NICs "
            f"of {pool.nic_bytes_per_s * 8 / 1e9:,.0f} Gbit/s"
        )
    for field, value in vars(found.fabric).items():
        lines.append(f"{field:<20} {value}")
    return "\n".join(lines)


def engine(name: str) -> str:
    """Return what a version of a serving engine does; any vllm-X.Y will do."""
    from gpuyard.envs.perf.serving import engines

    try:
        found = engines.engine(name)
    except ValueError as error:
        raise ValueError(f"engine {name!r} is unknown: {error}") from None
    rows = [f"{field:<24} {value}" for field, value in vars(found).items()]
    return "\n".join([*rows, "", *_wrapped(_first(engines.__doc__, 2))])


def format_(name: str) -> str:
    """Return what a format of traces holds."""
    from gpuyard.envs.workload.jobs import readers as of_jobs
    from gpuyard.envs.workload.requests import readers as of_requests

    found = [r.FORMATS[name] for r in (of_requests, of_jobs) if name in r.FORMATS]
    if not found:
        known = ", ".join(dict.fromkeys([*of_requests.FORMATS, *of_jobs.FORMATS]))
        raise ValueError(f"format {name!r} is unknown; choose one of {known}")
    return "\n\n".join(inspect.cleandoc(module.__doc__ or "") for module in found)


KINDS: dict[str, Callable[[str], str]] = {
    "scenario": scenario,
    "baseline": baseline,
    "gpu": gpu,
    "model": model,
    "cluster": cluster,
    "engine": engine,
    "format": format_,
}
"""What can be shown."""


def _first(text: str | None, paragraphs: int) -> str:
    return " ".join((text or "").replace("``", "").split("\n\n")[:paragraphs]).replace("\n", " ")


def _wrapped(text: str) -> Iterable[str]:
    return textwrap.wrap(text, min(shutil.get_terminal_size().columns, 100))
