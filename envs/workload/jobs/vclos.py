"""The workload of the vClos study: 5,000 jobs on 8,192 GPUs, by published facts.

Facts of arXiv 2308.05692 as read in the authors' simulator, github.com/nothepeople/RapidNetSim (no
licence: facts only): histogram of the shipped job list, quantiles of its compute times, mean
inter-arrival times, offered loads, the draw of model and pattern, and the spread of messages.

Two things are ours. Between the published quantiles compute times are linear in the logarithm, with
one more knot, where the 980 s of a clipped 1,000 s job that hardly communicates end; its place
gives the published mean. And sizes and times are not independent in the list: the published loads
give a mean of GPUs x seconds 1.23 times the product of the means. So for a share of jobs
(:data:`RANK_SHARE`, solved from the load) the rank of the time is that of the size.
"""

from __future__ import annotations

import numpy as np

from ...perf.training.vclos import PANGU, SHARES
from .arrivals import Arrivals
from .durations import Durations, from_quantiles
from .generator import JobGenerator, Kind, SizeClass

GPUS = 8192
INTERARRIVAL_S = (241.0, 285.0, 360.0, 375.0, 390.0, 421.0, 555.0)
SIZES = {8: 446, 64: 1501, 128: 699, 192: 31, 256: 501, 384: 5, 512: 1817}
"""Jobs of each size in the shipped list."""
COMPUTE = from_quantiles(
    (0.0, 0.5, 0.75, 0.776, 0.9, 0.95, 0.99, 1.0),
    (652.3, 652.3, 880.0, 980.0, 6523.0, 22830.0, 65230.0, 96000.0),
)
"""Compute times; the knot at 980 s is ours."""
RANK_SHARE = 0.269
"""Share of jobs whose time has the rank of their size: offered compute load 0.622 at 241 s."""
_SMALL = [(f"{name}-b{batch}", share) for name in SHARES for batch, share in SHARES[name].items()]


def generator(interarrival_s: float = INTERARRIVAL_S[0]) -> JobGenerator:
    """Return the study's stream of jobs at a mean inter-arrival time in seconds.

    A job's compute time over (1 - share of its model that is communication) is its run time with
    messages of the mean size; its own are half to one and a half times as large, and take as long.
    """
    total = sum(SIZES.values())
    ends = np.cumsum(list(SIZES.values())) / total
    classes = tuple(
        SizeClass((gpus,), (jobs / total,), _ranked(end - jobs / total, end), _kinds(gpus))
        for (gpus, jobs), end in zip(SIZES.items(), ends, strict=True)
    )
    return JobGenerator(classes, Arrivals(3600.0 / interarrival_s), message_spread=0.5)


def _ranked(low: float, high: float) -> Durations:
    """Return the times of the sizes between these ranks: part ranked like them, part like all."""
    p = np.union1d(COMPUTE.p, (low, high))
    own = np.clip((p - low) / (high - low), 0.0, 1.0)
    mixed = RANK_SHARE * own + (1.0 - RANK_SHARE) * p
    return Durations(mixed, COMPUTE.quantile(p))


def _kinds(gpus: int) -> tuple[Kind, ...]:
    """Return models and patterns of a size.

    Of r in U(0, 1), r < 0.5 is a small model with halving-doubling where the size is a power of
    two, else r < 0.7 or any other size a small model with a ring, else Pangu.
    """
    halving, ring = (0.0, 1.0) if gpus & (gpus - 1) else (0.5, 0.2)
    kinds = [
        Kind(f"vclos/{name}/{pattern}", part / len(_SMALL), 1.0 - share)
        for pattern, part in (("halving_doubling", halving), ("ring", ring))
        for name, share in _SMALL
        if part
    ]
    pangu = Kind("vclos/Pangu/pairwise", 1.0 - halving - ring, 1.0 - sum(PANGU.values()))
    return (*kinds, pangu) if pangu.share > 1e-9 else tuple(kinds)
