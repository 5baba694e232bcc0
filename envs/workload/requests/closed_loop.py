"""The workload of a scenario in which sessions answer back."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from .sessions import Sessions
from .source import Workload
from .stream import RequestStream


@dataclass(frozen=True)
class ClosedLoop(Workload):
    """Sessions that answer back: a fixed set for each episode.

    Attributes:
        source: where they come from.
        num_requests: turns of an episode at most.
    """

    source: Sessions  # type: ignore[assignment]

    @classmethod
    def of(cls, source: Sessions) -> ClosedLoop:
        """Return the workload of such sessions."""
        return cls(source, source.room[0])

    def sample(self, rng: np.random.Generator) -> RequestStream:
        """Return the requests of one episode; those that wait for an answer stand last."""
        return self.source.sample(rng)

    @property
    def num_sessions(self) -> int:
        """Sessions of an episode that answer back."""
        return self.source.num_sessions

    @property
    def num_steps(self) -> int:
        """Steps of rollouts in an episode."""
        return self.source.steps.count

    @property
    def compiled(self) -> tuple[Any, ...]:
        """Compiled functions that :meth:`sample` runs: none."""
        return ()

    def rehearse(self) -> None:
        """Have nothing compiled."""

    @property
    def room(self) -> tuple[int, int]:
        """Bounds on the prefix ids of an episode: all of its requests', and distinct ones."""
        return self.source.room[1:]

    @cached_property
    def _mean_lengths(self) -> tuple[float, float]:
        stream = self.source.sample(np.random.default_rng(0))
        return float(stream.prompt_tokens.mean()), float(stream.output_tokens.mean())
