"""Where the requests of a scenario come from: a generator, or windows of a trace."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from . import conversations, prefix
from .generator import Generator
from .images import Images
from .stream import RequestStream
from .transform import window


@dataclass(frozen=True)
class Workload:
    """Where requests come from: a generator, or windows of a trace.

    Attributes:
        source: generator or trace.
        num_requests: requests per episode.
        images: which requests bring an image; None: none does.
    """

    source: Generator | RequestStream
    num_requests: int
    images: Images | None = None

    def sample(self, rng: np.random.Generator) -> RequestStream:
        """Return the requests of one episode; of a trace, a window from a random start."""
        stream = self._text(rng)
        return self.images.added(stream, rng) if self.images else stream

    def _text(self, rng: np.random.Generator) -> RequestStream:
        if isinstance(self.source, Generator):
            return self.source.sample(rng, self.num_requests)
        if self.num_requests == len(self.source):
            return self.source
        start = int(rng.integers(len(self.source) - self.num_requests + 1))
        return prefix.shared_only(window(self.source, start, self.num_requests))

    @property
    def num_sessions(self) -> int:
        """Sessions of an episode that answer back at most; 0: all requests arrive by the clock."""
        return 0

    @property
    def num_steps(self) -> int:
        """Steps of rollouts in an episode."""
        return 1

    @property
    def compiled(self) -> tuple[Any, ...]:
        """Compiled functions that :meth:`sample` runs."""
        if isinstance(self.source, Generator):
            return conversations.ENTRIES
        return () if self.num_requests == len(self.source) else (prefix.shared_only_ids,)

    def rehearse(self) -> None:
        """Draw a few requests, to have everything compiled that draws them."""
        if isinstance(self.source, Generator):
            self.source.sample(np.random.default_rng(0), 2)
        elif self.compiled:
            prefix.shared_only(window(self.source, 0, 1))

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
        visual = self.images.mean_tokens if self.images else 0.0
        return float(stream.prompt_tokens.mean()) + visual, float(stream.output_tokens.mean())
