"""Named generators of jobs.

| name | what |
|---|---|
| `mixed` | 1 to 128 GPUs, minutes to hours; CNNs, BERT, LLMs and all-to-all; made for 512 GPUs |
| `vclos` | the 8,192-GPU workload of the vClos study |
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from . import kinds, vclos
from .arrivals import Arrivals
from .durations import Durations, lognormal_mixture
from .generator import JobGenerator, SizeClass


def preset(name: str) -> JobGenerator:
    """Return a named generator.

    Raises:
        ValueError: there is no generator of that name.
    """
    if name not in PRESETS:
        raise ValueError(f"unknown job generator {name!r}; choose one of {', '.join(PRESETS)}")
    return PRESETS[name]()


def _mixed() -> JobGenerator:
    """Return jobs that meet on the network, at 85 % offered load of 512 GPUs.

    All figures are chosen, none measured: short enough that an episode sees hundreds of jobs come
    and go, large enough that most GPU time belongs to jobs of several nodes.
    """
    classes = (
        SizeClass((1, 2, 4), (0.12, 0.09, 0.13), _around(900.0), kinds.SMALL),
        SizeClass((8, 16), (0.24, 0.17), _around(1500.0), kinds.MEDIUM),
        SizeClass((32, 64, 128), (0.13, 0.08, 0.04), _around(2400.0), kinds.LARGE),
    )
    jobs = JobGenerator(classes, Arrivals())
    return replace(jobs, arrivals=Arrivals(rate_per_h=0.85 * 512 * 3600.0 / jobs.mean_gpu_s))


def _around(median_s: float) -> Durations:
    """Return minutes to hours, spread by a factor of 2.2."""
    return lognormal_mixture([1.0], [math.log(median_s)], [0.8], 120.0, 14_400.0)


PRESETS: dict[str, Callable[[], JobGenerator]] = {"mixed": _mixed, "vclos": vclos.generator}
