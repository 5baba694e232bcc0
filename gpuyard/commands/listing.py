"""``gpuyard list``: the names of everything that has one."""

from __future__ import annotations

import argparse
import shutil
import textwrap
from collections.abc import Callable, Iterable

Entries = Iterable[tuple[str, str]]
"""Names, and a line on each."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what can be asked for."""
    parser.add_argument(
        "kind",
        nargs="?",
        type=lambda text: f"{text}s" if f"{text}s" in KINDS else text,  # one, too
        choices=KINDS,
        help="what to list; nothing: what can be listed",
    )


def run(options: argparse.Namespace) -> int:
    """Print names; return the exit status."""
    show(KINDS[options.kind]() if options.kind else kinds())
    return 0


def show(entries: Entries) -> None:
    """Print names, each with a line on it."""
    rows = list(entries)
    width = max(len(name) for name, _ in rows)
    screen = shutil.get_terminal_size().columns
    for name, meaning in rows:
        print(_row(name, meaning, width, screen))


def kinds() -> Entries:
    """Yield what can be listed."""
    for kind, entries in KINDS.items():
        meaning = (entries.__doc__ or "").partition(";")[0].strip().rstrip(".")
        yield f"gpuyard list {kind}", meaning.removeprefix("Yield ")


def _row(name: str, meaning: str, width: int, screen: int) -> str:
    """Return a name with a line on it, below where the terminal is too narrow for both."""
    if screen - width < 30:
        return "\n".join([name, textwrap.indent(textwrap.fill(meaning, screen - 4), "    ")])
    start = f"{name:<{width}}  "
    lines = textwrap.wrap(meaning, screen, initial_indent=start, subsequent_indent=" " * len(start))
    return "\n".join(lines) or name


def scenarios() -> Entries:
    """Yield the scenarios of the package; their files are read, not built."""
    from gpuyard.envs.shipped import described, names, path_of

    return ((name, described(path_of(name))) for name in names())


def baselines() -> Entries:
    """Yield the registered policies with their options."""
    from gpuyard.baselines import names, summary

    return ((name, summary(name)) for name in names())


def gpus() -> Entries:
    """Yield the GPUs of the catalogue."""
    from gpuyard.envs.hardware import catalogue

    for name in catalogue.gpu_names():
        device = catalogue.gpu(name)
        memory, tflops = device.memory_bytes / 2**30, device.bf16_flops / 1e12
        rate = f"{tflops:,.0f} TFLOP/s bf16, " if tflops else ""
        yield name, f"{memory:.0f} GiB, {rate}{device.bandwidth_bytes_per_s / 1e9:,.0f} GB/s"


def models() -> Entries:
    """Yield the models of the catalogue."""
    from gpuyard.envs.hardware import catalogue

    for name in catalogue.model_names():
        shape = catalogue.model(name)
        active = f", {shape.active_params / 1e9:,.1f} active" if shape.experts else ""
        yield name, f"{shape.params / 1e9:,.1f} billion parameters{active}, {shape.layers} layers"


def clusters() -> Entries:
    """Yield the named clusters."""
    from gpuyard.envs.hardware.clusters import BLUEPRINTS

    return ((name, (make.__doc__ or "").strip()) for name, make in BLUEPRINTS.items())


def engines() -> Entries:
    """Yield the versions of serving engines that differ."""
    from gpuyard.envs.perf.serving.engines import ENGINES, NEWEST

    for engine in ENGINES:
        parts = [
            "admits by whole prompt" if engine.whole_prompt else "admits by next chunk",
            "plans a step ahead" if engine.asynchronous else "plans when a step starts",
            "decodes in one CUDA graph" if engine.full_graphs else "launches layer by layer",
        ]
        newest = "the default; " if engine.name == NEWEST else ""
        yield engine.name, f"{newest}{', '.join(parts)}"


def formats() -> Entries:
    """Yield the formats of request traces and job lists."""
    from gpuyard.envs.workload.jobs import readers as of_jobs
    from gpuyard.envs.workload.requests import readers as of_requests

    for what, readers in (("requests", of_requests), ("jobs", of_jobs)):
        for name, module in readers.FORMATS.items():
            yield name, f"{what}: {(module.__doc__ or '').strip().splitlines()[0]}"


KINDS: dict[str, Callable[[], Entries]] = {
    "scenarios": scenarios,
    "baselines": baselines,
    "gpus": gpus,
    "models": models,
    "clusters": clusters,
    "engines": engines,
    "formats": formats,
}
"""What can be listed."""
