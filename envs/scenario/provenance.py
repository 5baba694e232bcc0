"""Where the constants of a scenario are from, and how far each is to be trusted."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

from ..hardware.catalogue import GPU
from ..perf import tabulate
from ..perf.training.training import efficiency_source
from .schema import Scenario

DECIDING = ("gemm", "moe", "prefill", "decode", "mla_prefill", "mla_decode")
"""Kernels that take most of a serving step."""


@dataclass(frozen=True, order=True)
class Fact:
    """One thing that a scenario is computed from.

    Attributes:
        subject: the GPU or model that it is about.
        what: ``datasheet``, ``shapes``, ``training`` or a kernel with its format or number of GPUs.
        of: whose figures they are: the subject's, or those of a related GPU.
        confidence: ``measured`` on it, ``calibrated`` on whole runs, ``scaled`` from related
            measurements, ``analogy`` (neither; expect 30 % error), ``published`` or ``scenario``.
        source: the data.
    """

    subject: str
    what: str
    of: str
    confidence: str
    source: str


def provenance(scenario: Scenario) -> tuple[Fact, ...]:
    """Return what the scenario is computed from, sorted by subject."""
    facts: set[Fact] = set()
    for deployment in {replica.deployment for replica in scenario.replicas}:
        model = deployment.model
        facts.add(_datasheet(deployment.gpu))
        facts.add(Fact(model.name, "shapes", model.name, model.confidence, model.source))
        for used in tabulate(deployment).sources:
            what = f"{used.kernel} {used.key}".strip()
            facts.add(Fact(used.gpu, what, used.of, used.confidence, used.source))
    if scenario.cluster is not None:
        for pool in scenario.cluster.pools:
            facts.add(_datasheet(pool.gpu))
            of, confidence, source = efficiency_source(pool.gpu)
            facts.add(Fact(pool.gpu.name, "training", of, confidence, source))
    return tuple(sorted(facts))


def _datasheet(gpu: GPU) -> Fact:
    return Fact(gpu.name, "datasheet", gpu.name, "published", gpu.source)


_warned: set[tuple[str, str]] = set()


def warn_of_analogies(scenario: Scenario) -> None:
    """Warn where an analogy decides a replica's speed; once for each GPU and kernel."""
    by_gpu: dict[tuple[str, str], list[str]] = {}
    for fact in provenance(scenario):
        new = (fact.subject, fact.what) not in _warned
        if fact.confidence == "analogy" and fact.what.split(" ")[0] in DECIDING and new:
            _warned.add((fact.subject, fact.what))
            by_gpu.setdefault((fact.subject, fact.of), []).append(fact.what)
    for (gpu, of), kernels in by_gpu.items():
        warnings.warn(
            f"{gpu}: {', '.join(kernels)} by analogy with {of}, expect 30 % error; "
            "env.unwrapped.provenance() says where every constant is from",
            stacklevel=3,
        )
