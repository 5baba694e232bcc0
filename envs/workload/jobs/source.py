"""Where the jobs of a scenario come from: a generator, or windows of a job list."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...hardware.catalogue import Model
from . import replay
from .generator import JobGenerator
from .queues import Queue
from .stream import JobStream


@dataclass(frozen=True)
class JobWorkload:
    """Where jobs come from, and the rules that hold for all of them.

    Attributes:
        source: generator, or all jobs of a list.
        num_jobs: jobs per episode.
        queues: of each tenant, by its number, and then those around them.
        required: widest level allowed, index into ``hardware.cluster.LEVELS``.
        preferred: level wished for.
        level_gpus: GPUs of the largest domain of each level.
        models: the scenario's own by name; a profile of such a name trains it.
        warm_gpus: GPUs that jobs which run when a window of a list begins may hold; 0: none.
        table: the ``[jobs]`` table that it was read from.
    """

    source: JobGenerator | JobStream
    num_jobs: int
    queues: tuple[Queue, ...]
    required: int
    preferred: int
    level_gpus: tuple[int, ...]
    models: Mapping[str, Model] = field(default_factory=dict)
    warm_gpus: int = 0
    table: Mapping[str, Any] = field(default_factory=dict)

    @property
    def profiles(self) -> tuple[str, ...]:
        """Names of what jobs train; a stream's ``profile`` is an index into them."""
        return self.source.profiles

    @property
    def sizes(self) -> tuple[tuple[str, int], ...]:
        """Every (profile, GPUs) that can occur."""
        if isinstance(self.source, JobGenerator):
            return self.source.sizes
        return tuple(sorted({(name, gpus) for name, gpus, _ in replay.gangs(self.source)}))

    @property
    def tenants(self) -> tuple[str, ...]:
        """Names of the tenants."""
        if isinstance(self.source, JobGenerator):
            return tuple(name for name, _ in self.source.tenants)
        return self.source.tenants

    def sample(self, rng: np.random.Generator) -> JobStream:
        """Return the jobs of one episode; of a list, a window from a random start."""
        if isinstance(self.source, JobGenerator):
            return self.source.sample(rng, self.num_jobs)
        start = int(rng.integers(len(self.source) - self.num_jobs + 1))
        return replay.window(self.source, start, self.num_jobs, self.warm_gpus)

    def levels(self, gpus: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Return the required and preferred level of gangs of these sizes, int32 (J,) each.

        A gang too large for the preferred level prefers the narrowest one that holds it.
        """
        holds = np.searchsorted(self.level_gpus, gpus)
        preferred = np.minimum(np.maximum(self.preferred, holds), self.required)
        return np.full(len(gpus), self.required, np.int32), preferred.astype(np.int32)
