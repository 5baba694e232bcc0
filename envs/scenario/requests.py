"""The ``[workload]`` table of a scenario: a generator's preset, or a trace."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from ..workload.requests import presets, readers
from ..workload.requests.images import Images
from ..workload.requests.prefix import shared_only
from ..workload.requests.source import Workload
from ..workload.requests.transform import scale_rate
from .checks import (
    ScenarioError,
    check_above,
    check_type,
    check_whole,
    checked_table,
    refuse_unknown,
    text_table,
)
from .closed_loop import read_closed_loop

OWN_IDS = 1_000_000  # prefix ids up to which a replay keeps those that requests do not share


def read_workload(table: dict[str, Any], folder: Path) -> Workload:
    """Build the workload of a ``[workload]`` table; relative trace paths start at ``folder``.

    Raises:
        ScenarioError: naming the field, value and remedy.
        TraceError: naming the trace file, line, field, value and remedy.
    """
    table = dict(table)
    closed_loop = table.pop("closed_loop", False)
    check_type("workload.closed_loop", closed_loop, False)
    if closed_loop:
        return read_closed_loop(table, folder)
    if "images" in table:
        return _with_images(table.pop("images"), read_workload(table, folder))
    count = table.pop("num_requests", 512)
    check_whole("workload.num_requests", count, 0)
    scale = table.pop("rate_scale", 1.0)
    check_type("workload.rate_scale", scale, 1.0)
    check_above("workload.rate_scale", scale, 0)
    if "trace" in table:
        return _replay(table, folder, count, scale)
    preset = table.pop("preset", "chat")
    check_type("workload.preset", preset, "chat")
    if count == 0:
        raise ScenarioError("workload.num_requests = 0 means a whole trace; set it, e.g. 512")
    try:
        generator = presets.preset(preset, **table)
        generator = replace(generator, rate_per_s=generator.rate_per_s * scale)
    except ValueError as error:
        raise ScenarioError(f"workload: {error}") from error
    return Workload(generator, count)


def _with_images(table: Any, workload: Workload) -> Workload:
    """Return the workload with the images of its ``images`` table."""
    where = "workload.images"
    refuse_unknown(checked_table(table, where), {item.name for item in fields(Images)}, where)
    if "model" not in table:
        raise ScenarioError(f"{where}.model is missing; name the model whose encoder sees them")
    check_type(f"{where}.model", table["model"], "Molmo-7B-D")
    if any(workload.room):
        raise ScenarioError(
            f"{where} = {table!r} needs requests that share no prefixes, so that images move no "
            f"block: use a preset without conversations, such as azure-conv"
        )
    sizes = table.get("sizes", Images.sizes)
    if isinstance(sizes, list):
        sizes = tuple(tuple(size) if isinstance(size, list) else size for size in sizes)
    try:
        images = Images(**{**table, "sizes": sizes})
    except (TypeError, ValueError) as error:
        raise ScenarioError(f"{where}: {error}") from error
    return replace(workload, images=images)


def _replay(table: dict[str, Any], folder: Path, count: int, scale: float) -> Workload:
    known = {"trace", "format", "columns", "num_requests", "rate_scale"}
    refuse_unknown(table, known, "workload")
    for key, example in (("trace", "requests.csv"), ("format", "auto")):
        check_type(f"workload.{key}", table.get(key, example), example)
    columns = text_table(table.get("columns", {}), "workload.columns")
    stream = readers.read(folder / table["trace"], table.get("format", "auto"), columns=columns)
    count = min(count, len(stream)) or len(stream)
    # a preempted request may find its own blocks again: a replay of a whole trace keeps their ids
    if count < len(stream) or len(stream.prefix_ids) > OWN_IDS:
        stream = shared_only(stream)
    return Workload(scale_rate(stream, scale) if scale != 1.0 else stream, count)
