"""Slurm's multifactor priority: a weighted sum of factors between 0 and 1.

Source: Slurm, ``priority_multifactor`` documentation.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Factors:
    """What raises the priority of jobs, each in [0, 1], one entry per job.

    Attributes:
        age: see :func:`age`.
        fairshare: see :mod:`.fairshare`.
        job_size: see :func:`job_size`.
        partition: see :func:`normalised`.
        qos: see :func:`normalised`.
    """

    age: ArrayLike = 0.0
    fairshare: ArrayLike = 0.0
    job_size: ArrayLike = 0.0
    partition: ArrayLike = 0.0
    qos: ArrayLike = 0.0


@dataclass(frozen=True)
class Weights:
    """``PriorityWeight*``: what a factor of 1 adds.

    The defaults are those of the documentation's configuration example, but for the QOS, which it
    leaves out.
    """

    age: float = 1000.0
    fairshare: float = 10_000.0
    job_size: float = 1000.0
    partition: float = 1000.0
    qos: float = 0.0


def weighted(factors: Factors, weights: Weights) -> list[Array]:
    """Return what each factor adds, in the order of :class:`Weights` (the columns of ``sprio``)."""
    return [
        getattr(weights, one.name) * np.asarray(getattr(factors, one.name), float)
        for one in fields(Weights)
    ]


def multifactor(factors: Factors, weights: Weights, nice: ArrayLike = 0.0) -> Array:
    """Return the priority of each job, 0 or more; the highest comes first.

    Args:
        factors: of the jobs.
        weights: of the factors.
        nice: is taken off.
    """
    total = np.asarray(0.0)
    for part in weighted(factors, weights):
        total = total + part
    return np.maximum(total - np.asarray(nice), 0.0)


def age(waited_s: ArrayLike, most_s: float) -> Array:
    """Return the age factor: 1 from ``PriorityMaxAge`` on, ``most_s``."""
    return np.minimum(np.asarray(waited_s, float) / most_s, 1.0)


def job_size(gpus: ArrayLike, all_gpus: float, favor_small: bool = False) -> Array:
    """Return the size factor: 1 for the whole machine, or for one GPU if small ones are favoured.

    Slurm counts nodes and CPUs; here the GPUs count.
    """
    share = np.asarray(gpus, float) / all_gpus
    return 1.0 + 1.0 / all_gpus - share if favor_small else share


def size_over_time(gpus: ArrayLike, limit_s: ArrayLike, all_gpus: float) -> Array:
    """Return the size factor of ``SMALL_RELATIVE_TO_TIME``: size over the time limit in minutes.

    At most 1, which a job of the whole machine with a limit of one minute has.
    """
    minutes = np.maximum(np.asarray(limit_s, float) / 60.0, 1.0)
    return np.asarray(gpus, float) / minutes / all_gpus


def normalised(priority: ArrayLike) -> Array:
    """Return priorities of partitions or QOS over the highest of them, 0 where all are 0."""
    values = np.asarray(priority, float)
    return values / max(float(values.max(initial=0.0)), 1e-12)
