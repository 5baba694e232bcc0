"""Where the jobs of a scenario come from: a generator, or windows of a job list.

| field of ``[jobs]`` (default) | meaning |
|---|---|
| `preset` ("mixed") or `trace` | a generator of :mod:`.presets`, or a job list with `format` (auto), for philly-gavel also `durations` (a second file) |
| `num_jobs` (512) | jobs per episode; 0: the whole job list |
| `rate_per_h`, `interarrival_s` or `load` | of these at most one; `load` is GPUs x run time offered per second and GPU of the cluster |
| `rate_scale` (1) | factor on the rate |
| `max_gpus`, `max_duration_s` | cut larger and longer jobs down to these |
| `required` ("zone"), `preferred` ("leaf") | topology levels of every gang; one too large for the preferred level prefers the next that holds it |
| `high_priority_share` | share of a generator's jobs with priority 1, the others have 0 |
| `[jobs.profiles]` | what jobs train: `name = share`, instead of the generator's or list's own |
| `[jobs.arrivals]` | fields of :class:`.arrivals.Arrivals` to change, for a generator |
| `[[jobs.tenants]]` | `name`, `quota` (GPUs at a time; 0: no limit), `share` of a generator's jobs |
"""  # noqa: E501

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuyard.envs.hardware.cluster import LEVELS, Cluster

from ...checks import ScenarioError
from . import readers, replay
from .generator import JobGenerator
from .limits import check_gangs, level_gpus
from .presets import preset
from .settings import Settings, read_settings
from .stream import JobStream
from .tenants import quotas


@dataclass(frozen=True)
class JobWorkload:
    """Where jobs come from, and the rules that hold for all of them.

    Attributes:
        source: generator, or all jobs of a list.
        num_jobs: jobs per episode.
        quotas: GPUs that each tenant may hold at a time.
        required: widest level allowed, index into ``hardware.cluster.LEVELS``.
        preferred: level wished for.
        level_gpus: GPUs of the largest domain of each level.
    """

    source: JobGenerator | JobStream
    num_jobs: int
    quotas: tuple[int, ...]
    required: int
    preferred: int
    level_gpus: tuple[int, ...]

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
        return replay.window(self.source, start, self.num_jobs)

    def levels(self, gpus: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Return the required and preferred level of gangs of these sizes, int32 (J,) each.

        A gang too large for the preferred level prefers the narrowest one that holds it.
        """
        holds = np.searchsorted(self.level_gpus, gpus)
        preferred = np.minimum(np.maximum(self.preferred, holds), self.required)
        return np.full(len(gpus), self.required, np.int32), preferred.astype(np.int32)


def read_jobs(table: dict[str, Any], folder: Path, cluster: Cluster) -> JobWorkload:
    """Build the jobs of a ``[jobs]`` table; relative trace paths start at ``folder``.

    Raises:
        ScenarioError: naming the field, value and remedy.
        TraceError: naming the job list, line, field, value and remedy.
    """
    settings = read_settings(table)
    source: JobGenerator | JobStream
    if settings.trace is None:
        source = _generator(settings, cluster)
        count = settings.num_jobs
        if count == 0:
            raise ScenarioError("jobs.num_jobs = 0 means a whole job list; set it, e.g. 512")
        gangs = [(name, gpus, -1) for name, gpus in source.sizes]
    else:
        source = _list(settings, folder, cluster)
        count = min(settings.num_jobs, len(source)) or len(source)
        gangs = replay.gangs(source)
    required, preferred = LEVELS.index(settings.required), LEVELS.index(settings.preferred)
    check_gangs(gangs, required, cluster)
    most = tuple(int(most) for most in level_gpus(cluster).max(axis=0))
    workload = JobWorkload(source, count, (), required, preferred, most)
    allowed = quotas(settings.tenants, workload.tenants, cluster.num_gpus)
    workload = replace(workload, quotas=allowed)
    _check_quotas(workload)
    return workload


def _generator(settings: Settings, cluster: Cluster) -> JobGenerator:
    """Return the preset with everything that the settings change."""
    try:
        jobs = preset(settings.preset).capped(settings.max_gpus, settings.max_duration_s)
        if settings.profiles:
            classes = tuple(replace(c, kinds=settings.profiles) for c in jobs.classes)
            jobs = replace(jobs, classes=classes)
        rate = _rate_per_h(settings, jobs.arrivals.rate_per_h, jobs.mean_gpu_s, cluster)
        arrivals = replace(jobs.arrivals, rate_per_h=rate, **settings.arrivals)
    except ValueError as error:
        raise ScenarioError(f"jobs: {error}") from error
    if settings.tenants:
        jobs = replace(jobs, tenants=tuple((t.name, t.share) for t in settings.tenants))
    if settings.high_priority_share is not None:
        share = settings.high_priority_share
        jobs = replace(jobs, priorities=((0.0, 1.0 - share), (1.0, share)))
    return replace(jobs, arrivals=arrivals)


def _list(settings: Settings, folder: Path, cluster: Cluster) -> JobStream:
    """Return the job list with everything that the settings change."""
    assert settings.trace is not None
    durations = None if settings.durations is None else folder / settings.durations
    jobs = readers.read(folder / settings.trace, settings.format, durations)
    jobs = replay.capped(jobs, settings.max_gpus, settings.max_duration_s)
    jobs = replay.with_kinds(jobs, settings.profiles)
    own = replay.rate_per_h(jobs)
    wanted = _rate_per_h(settings, own, replay.mean_gpu_s(jobs), cluster)
    if wanted != own and own == 0:
        raise ScenarioError(
            f"jobs: all {len(jobs)} jobs of {settings.trace} arrive at once, so that no rate can "
            "be set; remove rate_per_h, interarrival_s, load and rate_scale"
        )
    return jobs if wanted == own else replace(jobs, arrival_s=jobs.arrival_s * (own / wanted))


def _rate_per_h(settings: Settings, own: float, mean_gpu_s: float, cluster: Cluster) -> float:
    """Return the jobs per hour that the settings ask for; their ``own`` rate by default."""
    rate = own
    if settings.rate_per_h is not None:
        rate = settings.rate_per_h
    elif settings.interarrival_s is not None:
        rate = 3600.0 / settings.interarrival_s
    elif settings.load is not None:
        rate = settings.load * cluster.num_gpus * 3600.0 / mean_gpu_s
    return rate * settings.rate_scale


def _check_quotas(workload: JobWorkload) -> None:
    """Refuse quotas below the size of a gang that the tenant may ask for: it would never start."""
    for number, (name, quota) in enumerate(zip(workload.tenants, workload.quotas, strict=True)):
        source = workload.source
        if isinstance(source, JobGenerator):
            largest = max(gpus for _, gpus in source.sizes)
        else:
            largest = int(source.gpus[source.tenant == number].max(initial=0))
        if largest > quota:
            raise ScenarioError(
                f"jobs.tenants: {name!r} has a quota of {quota} GPUs, but jobs of {largest}, which "
                f"would never start; raise the quota or set jobs.max_gpus = {quota}"
            )
