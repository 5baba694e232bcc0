"""Jobs drawn from distributions: sizes in classes, each with its run times and what it trains."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from .arrivals import Arrivals
from .durations import Durations
from .stream import JobStream


class Kind(NamedTuple):
    """What a job of a class trains.

    Attributes:
        profile: name that :func:`gpuyard.envs.perf.training.gang_profile.profile` knows.
        share: of the class's jobs.
        compute: share of the run time that the class's ``durations`` stand for, the rest being
            communication of the mean size; 1: all of it.
    """

    profile: str
    share: float
    compute: float = 1.0


@dataclass(frozen=True)
class SizeClass:
    """Jobs of some sizes.

    Attributes:
        gpus: sizes.
        shares: share of all jobs that each size has.
        durations: of the jobs of the class.
        kinds: what they train.
    """

    gpus: tuple[int, ...]
    shares: tuple[float, ...]
    durations: Durations
    kinds: tuple[Kind, ...]

    @property
    def mean_s(self) -> float:
        """Mean run time."""
        total = sum(kind.share for kind in self.kinds)
        stretch = sum(kind.share / kind.compute for kind in self.kinds) / total
        return self.durations.mean_s * stretch


@dataclass(frozen=True)
class JobGenerator:
    """A stream of jobs without end.

    Attributes:
        classes: sizes with their run times; shares are brought to a sum of 1.
        arrivals: when they come.
        tenants: name and share of the jobs of each.
        priorities: priority and share of the jobs that have it.
        message_spread: bytes, and the time that they take, are multiplied by
            1 + U(-spread, spread), job by job.
    """

    classes: tuple[SizeClass, ...]
    arrivals: Arrivals
    tenants: tuple[tuple[str, float], ...] = (("all", 1.0),)
    priorities: tuple[tuple[float, float], ...] = ((0.0, 1.0),)
    message_spread: float = 0.0

    @property
    def profiles(self) -> tuple[str, ...]:
        """Names of all that jobs train."""
        return tuple(dict.fromkeys(kind.profile for c in self.classes for kind in c.kinds))

    @property
    def sizes(self) -> tuple[tuple[str, int], ...]:
        """Every pair of profile and GPUs that a job can have."""
        pairs = {
            (kind.profile, gpus)
            for c in self.classes
            for gpus, share in zip(c.gpus, c.shares, strict=True)
            for kind in c.kinds
            if share > 0 and kind.share > 0
        }
        return tuple(sorted(pairs))

    @property
    def mean_gpu_s(self) -> float:
        """Mean of GPUs times run time of a job."""
        gpus = sum(np.dot(c.gpus, c.shares) * c.mean_s for c in self.classes)
        return float(gpus / sum(sum(c.shares) for c in self.classes))

    def capped(self, max_gpus: int | None, max_duration_s: float | None) -> JobGenerator:
        """Return the generator with larger and longer jobs cut down to these."""
        classes = self.classes
        if max_gpus is not None:
            classes = tuple(
                replace(c, gpus=tuple(min(gpus, max_gpus) for gpus in c.gpus)) for c in classes
            )
        if max_duration_s is not None:
            classes = tuple(
                replace(c, durations=c.durations.capped(max_duration_s)) for c in classes
            )
        return replace(self, classes=classes)

    def sample(self, rng: np.random.Generator, n: int) -> JobStream:
        """Return ``n`` jobs; the first arrives at 0."""
        t = self._tables
        size = np.searchsorted(t.size_below, rng.random(n), side="right")
        group = t.size_class[size]
        kind = np.searchsorted(t.kind_below, group + rng.random(n), side="right")
        seconds = np.exp(np.interp(group + rng.random(n), t.duration_p, t.duration_log_s))
        comm_scale = np.ones(n, np.float32)
        if self.message_spread:
            comm_scale += rng.uniform(-self.message_spread, self.message_spread, n).astype("f4")
        return JobStream(
            arrival_s=self.arrivals.sample(rng, n),
            gpus=t.size_gpus[size],
            duration_s=seconds * (1.0 + comm_scale * (1.0 / t.kind_compute[kind] - 1.0)),
            profile=t.kind_profile[kind],
            comm_scale=comm_scale,
            priority=t.priority[_choose(rng, n, [share for _, share in self.priorities])],
            tenant=_choose(rng, n, [share for _, share in self.tenants]).astype(np.int16),
            pool=np.full(n, -1, np.int16),
            profiles=self.profiles,
            tenants=tuple(name for name, _ in self.tenants),
        )

    @cached_property
    def _tables(self) -> _Tables:
        """Tables of all classes one behind the other: class c of a table lies in [c, c + 1)."""
        classes, names = self.classes, self.profiles
        kinds = [kind for c in classes for kind in c.kinds]
        return _Tables(
            size_below=_below([share for c in classes for share in c.shares]),
            size_gpus=np.array([gpus for c in classes for gpus in c.gpus], np.int32),
            size_class=np.repeat(np.arange(len(classes)), [len(c.gpus) for c in classes]),
            kind_below=np.concatenate(
                [i + _below([kind.share for kind in c.kinds]) for i, c in enumerate(classes)]
            ),
            kind_profile=np.array([names.index(kind.profile) for kind in kinds], np.int16),
            kind_compute=np.array([kind.compute for kind in kinds]),
            duration_p=np.concatenate([i + c.durations.p for i, c in enumerate(classes)]),
            duration_log_s=np.log(np.concatenate([c.durations.seconds for c in classes])),
            priority=np.array([value for value, _ in self.priorities], np.float32),
        )


class _Tables(NamedTuple):
    size_below: np.ndarray
    size_gpus: np.ndarray
    size_class: np.ndarray
    kind_below: np.ndarray
    kind_profile: np.ndarray
    kind_compute: np.ndarray
    duration_p: np.ndarray
    duration_log_s: np.ndarray
    priority: np.ndarray


def _below(shares: list[float]) -> np.ndarray:
    """Return the running sum of shares, ending at exactly 1."""
    total = np.cumsum(shares)
    return total / total[-1]


def _choose(rng: np.random.Generator, n: int, shares: list[float]) -> np.ndarray:
    """Return ``n`` numbers of choices with these shares."""
    if len(shares) == 1:
        return np.zeros(n, np.int64)
    return np.searchsorted(_below(shares), rng.random(n), side="right")
