"""From the ``[jobs]`` table to where jobs come from: a generator, or windows of a job list."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..hardware import huggingface
from ..hardware.catalogue import Model
from ..hardware.cluster import LEVELS, Cluster
from ..workload.jobs import readers, replay
from ..workload.jobs.generator import JobGenerator
from ..workload.jobs.presets import preset
from ..workload.jobs.source import JobWorkload
from ..workload.jobs.stream import JobStream
from .checks import ScenarioError
from .job_settings import Settings, read_settings
from .limits import check_gangs, level_gpus
from .optical import check_circuits
from .tenants import owners, queues


def read_jobs(
    table: dict[str, Any],
    folder: Path,
    cluster: Cluster,
    models: Mapping[str, Model] | None = None,
    keep_profiles: bool = False,
) -> JobWorkload:
    """Build the jobs of a ``[jobs]`` table.

    Args:
        table: the table.
        folder: where the relative path of a trace or a model's configuration starts.
        cluster: where the jobs run.
        models: the scenario's own by name, which jobs may train; they go before the catalogue's.
        keep_profiles: whether what a job list says of its jobs goes before ``[jobs.profiles]``.

    Raises:
        ScenarioError: naming the field, value and remedy.
        TraceError: naming the job list, line, field, value and remedy.
    """
    settings = read_settings(table)
    models = dict(models or {})
    models |= _configured(settings, folder, models)
    source: JobGenerator | JobStream
    if settings.trace is None:
        source = _generator(settings, cluster)
        count = settings.num_jobs
        if count == 0:
            raise ScenarioError("jobs.num_jobs = 0 means a whole job list; set it, e.g. 512")
        gangs = [(name, gpus, -1) for name, gpus in source.sizes]
    else:
        source = _list(settings, folder, cluster, keep_profiles)
        count = min(settings.num_jobs, len(source)) or len(source)
        gangs = replay.gangs(source)
    required, preferred = LEVELS.index(settings.required), LEVELS.index(settings.preferred)
    check_gangs(gangs, required, cluster, models)
    check_circuits(gangs, required, cluster)
    most = tuple(int(most) for most in level_gpus(cluster).max(axis=0))
    warm_gpus = cluster.num_gpus if settings.warm else 0
    workload = JobWorkload(source, count, (), required, preferred, most, models, warm_gpus, table)
    idle = [t.name for t in owners(settings.tenants) if t.share == 0]
    names = dict.fromkeys((*workload.tenants, *idle))  # a list names those alone that have jobs
    found = queues(settings.tenants, tuple(names), cluster.num_gpus)
    workload = replace(workload, queues=found)
    _check_quotas(workload)
    return workload


OF_ARRIVALS = ("preset", "arrivals", "high_priority_share", "load", "rate_per_h", "interarrival_s")
"""What a job list says itself: who comes, and when."""


def fed_by(
    workload: JobWorkload,
    source: Mapping[str, Any],
    folder: Path,
    cluster: Cluster,
) -> JobWorkload:
    """Return the jobs of a job list under the rules of a workload.

    What the list does not say stays: tenants (whose jobs are drawn by their shares where the list
    names none), quotas, levels, profiles of jobs that have none, limits on sizes and run times, and
    the factor on the rate.

    Args:
        workload: whose rules stay.
        source: ``trace``, ``format`` and perhaps ``columns`` of the ``[jobs]`` table.
        folder: where a relative path starts.
        cluster: where the jobs run.

    Raises:
        ScenarioError: the rules and the list do not go together.
        TraceError: naming the job list, line, field, value and remedy.
    """
    own = {"trace", "format", "columns", "durations", *OF_ARRIVALS}
    kept = {key: value for key, value in workload.table.items() if key not in own}
    table = kept | {**source, "num_jobs": workload.num_jobs}
    return read_jobs(table, folder, cluster, workload.models, keep_profiles=True)


def _configured(settings: Settings, folder: Path, known: Collection[str]) -> dict[str, Model]:
    """Return the models of profiles that are paths of a ``config.json``, but those ``known``."""
    try:
        given = [kind.profile for kind in settings.profiles if kind.profile.endswith(".json")]
        names = [name for name in given if name not in known]
        return {name: huggingface.read(folder / name) for name in names}
    except ValueError as error:
        raise ScenarioError(f"jobs.profiles: {error}") from error


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
        jobs = replace(jobs, tenants=tuple((t.name, t.share) for t in owners(settings.tenants)))
    if settings.high_priority_share is not None:
        share = settings.high_priority_share
        jobs = replace(jobs, priorities=((0.0, 1.0 - share), (1.0, share)))
    return replace(jobs, arrivals=arrivals)


def _list(settings: Settings, folder: Path, cluster: Cluster, keep_profiles: bool) -> JobStream:
    """Return the job list with everything that the settings change."""
    assert settings.trace is not None
    durations = None if settings.durations is None else folder / settings.durations
    jobs = readers.read(folder / settings.trace, settings.format, durations, settings.columns)
    jobs = replay.capped(jobs, settings.max_gpus, settings.max_duration_s)
    jobs = replay.with_kinds(jobs, settings.profiles, keep_profiles)
    jobs = replay.with_tenants(jobs, [(t.name, t.share) for t in owners(settings.tenants)])
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
    for number, queue in enumerate(workload.queues[: len(workload.tenants)]):
        source = workload.source
        if isinstance(source, JobGenerator):
            largest = max(gpus for _, gpus in source.sizes)
        else:
            largest = int(source.gpus[source.tenant == number].max(initial=0))
        if largest > queue.limit:
            raise ScenarioError(
                f"jobs.tenants: {queue.name!r} has a quota of {queue.limit} GPUs, but jobs of "
                f"{largest}, which would never start; raise the quota (and those of queues around "
                f"it) or set jobs.max_gpus = {queue.limit}"
            )
