"""Named generators of jobs.

| name | what | rate |
|---|---|---|
| `mixed` | 1 to 128 GPUs, minutes to hours; CNNs, BERT, LLMs, all-to-all | 85 % of 512 GPUs |
| `vclos` | the workload of the vClos study, 8 to 512 GPUs | one in 241 s |
| `philly-like` | Microsoft Philly 2017: mostly one GPU, long tails | of the trace |
| `helios-like` | SenseTime Helios 2020, cluster Venus: 1 to 256 GPUs | of the trace |
| `acme-like` | Shanghai AI Lab Acme 2023, sample of Kalos: LLMs on up to 320 GPUs | of the trace |
| `alibaba-like` | Alibaba OpenB 2023: pods of one GPU, a few of 8 | of the trace |
| `spot-like` | Alibaba spot GPUs 2026: 89 % high priority, 6 % run for days | of the trace |

The last five are fitted (``fits.toml``, docs/jobs.md) but for what they train, which no trace says:
:func:`kinds_of`, and language models in `acme-like`.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from importlib.resources import files
from typing import Any

from . import vclos
from .arrivals import Arrivals
from .durations import Durations, from_quantiles, lognormal_mixture
from .generator import JobGenerator, Kind, SizeClass

SMALL = (Kind("ResNet-50", 0.3), Kind("VGG-16", 0.3), Kind("BERT-large-512", 0.4))
LARGE = (
    Kind("VGG-16", 0.2),
    Kind("BERT-large-512", 0.3),
    Kind("vclos/BERT-b16/ring", 0.2),
    Kind("vclos/Pangu/pairwise", 0.3),
)
MIXED_MEDIUM = (  # 8 and 16 GPUs of 80 GB
    Kind("VGG-16", 0.15),
    Kind("BERT-large-512", 0.2),
    Kind("Llama-3-8B", 0.2),
    Kind("Qwen3-30B-A3B", 0.15),
    Kind("vclos/Pangu/pairwise", 0.3),
)
MIXED_LARGE = (  # from 32 on
    Kind("Llama-3-8B", 0.15),
    Kind("OPT-13B", 0.1),
    Kind("Llama-3-70B", 0.2),
    Kind("Mixtral-8x7B", 0.15),
    Kind("gpt-oss-120b", 0.1),
    Kind("vclos/Pangu/pairwise", 0.3),
)
LANGUAGE_MODELS = (Kind("Llama-2-7B", 0.4), Kind("Llama-3-8B", 0.3), Kind("Llama-2-13B", 0.3))


def kinds_of(gpus: int) -> tuple[Kind, ...]:
    """Return what jobs of this size train where no trace says so: a choice, not a measurement.

    All of these run on any number of GPUs of any type. Jobs of fewer than 8 GPUs are CNNs and BERT;
    larger ones all-reduce more, and three of ten exchange data all to all, as large models with
    experts or embedding tables do (shares of the vClos study, which names its patterns like this).
    """
    return SMALL if gpus < 8 else LARGE


def preset(name: str) -> JobGenerator:
    """Return a named generator.

    Raises:
        ValueError: there is no generator of that name.
    """
    if name not in PRESETS:
        raise ValueError(f"unknown job generator {name!r}; choose one of {', '.join(PRESETS)}")
    return PRESETS[name]()


@cache
def fits() -> dict[str, Any]:
    """Return the fitted parameters by trace, each with its ``source``."""
    return tomllib.loads((files(__package__) / "fits.toml").read_text("utf-8"))


def _mixed() -> JobGenerator:
    """Return jobs that meet on the network, at 85 % offered load of 512 GPUs.

    All figures are chosen, none measured: short enough that an episode sees hundreds of jobs come
    and go, large enough that most GPU time belongs to jobs of several nodes, and two thirds
    of it to models that slow down when they share links. Language models need GPUs of 80 GB.
    """
    classes = (
        SizeClass((1, 2, 4), (0.12, 0.09, 0.13), _around(900.0), SMALL),
        SizeClass((8, 16), (0.24, 0.17), _around(1500.0), MIXED_MEDIUM),
        SizeClass((32, 64, 128), (0.13, 0.08, 0.04), _around(2400.0), MIXED_LARGE),
    )
    jobs = JobGenerator(classes, Arrivals())
    return replace(jobs, arrivals=Arrivals(rate_per_h=0.85 * 512 * 3600.0 / jobs.mean_gpu_s))


def _around(median_s: float) -> Durations:
    """Return minutes to hours, spread by a factor of 2.2."""
    return lognormal_mixture([1.0], [math.log(median_s)], [0.8], 120.0, 14_400.0)


@cache
def _fitted(name: str) -> JobGenerator:
    """Return the generator of one table of ``fits.toml``."""
    fit = fits()[name]
    arrivals = Arrivals(
        fit["rate_per_h"],
        hours=tuple(fit["hours"]),
        burst_shape=fit["burst_shape"],
        window_s=fit["window_s"],
    )
    times = [(part.get("up_to", math.inf), _times(part)) for part in fit["durations"]]
    classes = tuple(
        SizeClass(
            (gpus,),
            (share,),
            next(durations for up_to, durations in times if gpus <= up_to),
            LANGUAGE_MODELS if name == "acme" and gpus >= 8 else kinds_of(gpus),
        )
        for gpus, share in zip(fit["gpus"], fit["shares"], strict=True)
    )
    priorities = tuple((value, share) for value, share in fit.get("priorities", [[0.0, 1.0]]))
    return JobGenerator(classes, arrivals, priorities=priorities)


def _times(part: dict[str, Any]) -> Durations:
    if "p" in part:
        return from_quantiles(part["p"], part["seconds"])
    return lognormal_mixture(
        part["weights"], part["mu"], part["sigma"], part["shortest_s"], part["longest_s"]
    )


PRESETS: dict[str, Callable[[], JobGenerator]] = {
    "mixed": _mixed,
    "vclos": vclos.generator,
    **{
        f"{name}-like": partial(_fitted, name)
        for name in ("philly", "helios", "acme", "alibaba", "spot")
    },
}
