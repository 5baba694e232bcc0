"""Job lists as a source: what they train, cut to a cluster, a window of them at another rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

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


def window(stream: JobStream, start: int, n: int) -> JobStream:
    """Return jobs ``start`` to ``start + n``, the first arriving at 0."""
    cut = slice(start, start + n)
    return replace(
        stream,
        arrival_s=stream.arrival_s[cut] - stream.arrival_s[start],
        gpus=stream.gpus[cut],
        duration_s=stream.duration_s[cut],
        profile=stream.profile[cut],
        comm_scale=stream.comm_scale[cut],
        priority=stream.priority[cut],
        tenant=stream.tenant[cut],
        pool=stream.pool[cut],
        estimate_s=None if stream.estimate_s is None else stream.estimate_s[cut],
    )


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
