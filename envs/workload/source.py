"""Where the requests of a scenario come from: a generator, or windows of a trace."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..checks import ScenarioError, check_type, refuse_unknown
from . import presets, readers
from .generator import Generator
from .prefix import shared_only
from .stream import RequestStream
from .transform import scale_rate, window

OWN_IDS = 1_000_000  # prefix ids up to which a replay keeps those that requests do not share


@dataclass(frozen=True)
class Workload:
    """Where requests come from: a generator, or windows of a trace.

    Attributes:
        source: generator or trace.
        num_requests: requests per episode.
    """

    source: Generator | RequestStream
    num_requests: int

    def sample(self, rng: np.random.Generator) -> RequestStream:
        """Return the requests of one episode; of a trace, a window from a random start."""
        if isinstance(self.source, Generator):
            return self.source.sample(rng, self.num_requests)
        if self.num_requests == len(self.source):
            return self.source
        start = int(rng.integers(len(self.source) - self.num_requests + 1))
        return shared_only(window(self.source, start, self.num_requests))

    @property
    def room(self) -> tuple[int, int]:
        """Bounds on the prefix ids of an episode: all of its requests', and distinct ones."""
        if isinstance(self.source, Generator):
            distinct = self.source.max_prefix_ids(self.num_requests)
            block = max(self.source.prefix_block_tokens, 1)
            per_request = self.source.max_tokens // block if distinct else 0
            return self.num_requests * per_request, distinct
        offsets = self.source.prefix_offsets
        most = int((offsets[self.num_requests :] - offsets[: -self.num_requests]).max())
        if self.num_requests == len(self.source):
            return most, int(self.source.prefix_ids.max(initial=-1)) + 1
        return most, most

    @property
    def prefix_block_tokens(self) -> int:
        """Tokens per prefix id, 0 if there are none."""
        return self.source.prefix_block_tokens

    def mean_lengths(self) -> tuple[float, float]:
        """Return the mean prompt and output tokens."""
        return self._mean_lengths

    @cached_property
    def _mean_lengths(self) -> tuple[float, float]:
        stream = self.source
        if isinstance(stream, Generator):
            stream = stream.sample(np.random.default_rng(0), 4096)
        return float(stream.prompt_tokens.mean()), float(stream.output_tokens.mean())


def read_workload(table: dict[str, Any], folder: Path) -> Workload:
    """Build the workload of a ``[workload]`` table; relative trace paths start at ``folder``.

    Raises:
        ScenarioError: naming the field, value and remedy.
        TraceError: naming the trace file, line, field, value and remedy.
    """
    table = dict(table)
    count = table.pop("num_requests", 512)
    if not isinstance(count, int) or isinstance(count, bool) or count < 0:
        raise ScenarioError(f"workload.num_requests = {count!r} must be a whole number >= 0")
    scale = table.pop("rate_scale", 1.0)
    check_type("workload.rate_scale", scale, 1.0)
    if not (math.isfinite(scale) and scale > 0):
        raise ScenarioError(f"workload.rate_scale = {scale!r} must be a finite number above 0")
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


def _replay(table: dict[str, Any], folder: Path, count: int, scale: float) -> Workload:
    refuse_unknown(table, {"trace", "format", "num_requests", "rate_scale"}, "workload")
    for key, example in (("trace", "requests.csv"), ("format", "auto")):
        check_type(f"workload.{key}", table.get(key, example), example)
    stream = readers.read(folder / table["trace"], table.get("format", "auto"))
    count = min(count, len(stream)) or len(stream)
    # a preempted request may find its own blocks again: a replay of a whole trace keeps their ids
    if count < len(stream) or len(stream.prefix_ids) > OWN_IDS:
        stream = shared_only(stream)
    return Workload(scale_rate(stream, scale) if scale != 1.0 else stream, count)
