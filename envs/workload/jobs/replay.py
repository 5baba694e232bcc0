"""Job lists as a source: what they train, cut to a cluster, a window of them at another rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .build import UNKNOWN
from .generator import Kind
from .presets import kinds_of
from .stream import UNNAMED, JobStream

_SEED = 0  # what a job trains stays the same from episode to episode


def with_kinds(stream: JobStream, chosen: tuple[Kind, ...] = (), keep: bool = False) -> JobStream:
    """Return the stream with something to train for every job.

    Args:
        stream: jobs, some with an unknown profile.
        chosen: what jobs draw from; by default they draw by their size.
        keep: leave jobs that have a profile as they are, also where something is ``chosen``.
    """
    keep = keep or not chosen
    unknown = stream.profile == UNKNOWN if keep else np.ones(len(stream), bool)
    if not unknown.any():
        return stream
    names = list(stream.profiles if keep else ())
    profile = stream.profile.copy()
    rng = np.random.Generator(np.random.PCG64(_SEED))
    for gpus in np.unique(stream.gpus[unknown]):
        rows = np.flatnonzero(unknown & (stream.gpus == gpus))
        kinds = chosen or kinds_of(int(gpus))
        names += [kind.profile for kind in kinds if kind.profile not in names]
        numbers = np.array([names.index(kind.profile) for kind in kinds])
        shares = np.array([kind.share for kind in kinds])
        profile[rows] = rng.choice(numbers, len(rows), p=shares / shares.sum())
    return replace(stream, profile=profile, profiles=tuple(names))


def with_tenants(stream: JobStream, tenants: Sequence[tuple[str, float]]) -> JobStream:
    """Return the stream with an owner for every job, where it names none.

    Args:
        stream: jobs; a list without tenants has one, "all".
        tenants: name and share of the jobs of each; the same jobs are theirs in every episode.
    """
    if not tenants or stream.tenants != UNNAMED or UNNAMED[0] in dict(tenants):
        return stream
    shares = np.array([share for _, share in tenants])
    rng = np.random.Generator(np.random.PCG64(_SEED))
    owners = rng.choice(len(tenants), len(stream), p=shares / shares.sum())
    return replace(
        stream, tenant=owners.astype(np.int16), tenants=tuple(name for name, _ in tenants)
    )


def capped(stream: JobStream, max_gpus: int | None, max_duration_s: float | None) -> JobStream:
    """Return the stream with larger and longer jobs cut down to these."""
    if max_gpus is not None:
        stream = replace(stream, gpus=np.minimum(stream.gpus, np.int32(max_gpus)))
    if max_duration_s is not None:
        stream = replace(stream, duration_s=np.minimum(stream.duration_s, max_duration_s))
        if stream.estimate_s is not None:
            estimate_s = np.minimum(stream.estimate_s, max_duration_s)
            stream = replace(stream, estimate_s=estimate_s)
    return stream


def _left(
    estimate_s: NDArray[np.float64] | None, rows: NDArray[np.intp], begun_s: NDArray[np.float64]
) -> NDArray[np.float64] | None:
    """Return what users' estimates leave of jobs that have run for a while, at least a second."""
    if estimate_s is None:
        return None
    return np.maximum(estimate_s[rows] - begun_s, np.minimum(estimate_s[rows], 1.0))


def window(stream: JobStream, start: int, n: int, warm_gpus: int = 0) -> JobStream:
    """Return ``n`` jobs from job ``start`` on, which arrives at 0.

    Args:
        stream: the list.
        start: the first job of the window.
        n: jobs to return.
        warm_gpus: GPUs that jobs which run at the window's start may hold: those come first, with
            the run time that they have left, at most n / 2 of them; 0: the cluster is empty.
    """
    now_s = stream.arrival_s[start]
    running = _running(stream, start, warm_gpus)[: n // 2]
    rows = np.concatenate([running, np.arange(start, start + n - len(running))])
    begun_s = np.maximum(now_s - stream.arrival_s[rows], 0.0)
    return replace(
        stream,
        arrival_s=np.maximum(stream.arrival_s[rows] - now_s, 0.0),
        gpus=stream.gpus[rows],
        duration_s=stream.duration_s[rows] - begun_s,
        profile=stream.profile[rows],
        comm_scale=stream.comm_scale[rows],
        priority=stream.priority[rows],
        tenant=stream.tenant[rows],
        pool=stream.pool[rows],
        estimate_s=_left(stream.estimate_s, rows, begun_s),
    )


def _running(stream: JobStream, start: int, num_gpus: int) -> NDArray[np.int64]:
    """Return the jobs before ``start`` that run when it arrives, if each started on arrival.

    Oldest first, until the next one would not fit on ``num_gpus``.
    """
    end_s = stream.arrival_s[:start] + stream.duration_s[:start]
    rows = np.flatnonzero(end_s > stream.arrival_s[start])
    return rows[np.cumsum(stream.gpus[rows], dtype=np.int64) <= num_gpus]


def rate_per_h(stream: JobStream) -> float:
    """Return the mean rate of arrival, 0 if all arrive at once."""
    span_s = float(stream.arrival_s[-1])
    return 3600.0 * (len(stream) - 1) / span_s if span_s else 0.0


def mean_gpu_s(stream: JobStream) -> float:
    """Return the mean of GPUs times run time."""
    return float((stream.gpus * stream.duration_s).mean())


def gangs(stream: JobStream) -> list[tuple[str, int, int]]:
    """Return every (profile, GPUs, pool) that occurs."""
    rows = np.unique(np.column_stack([stream.profile, stream.gpus, stream.pool]), axis=0)
    return [(stream.profiles[profile], int(gpus), int(pool)) for profile, gpus, pool in rows]
