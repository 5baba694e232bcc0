"""Which tensor-parallel degree, and so how many instances, a machine should run.

For clusters of unequal machines that serve one model: for each degree p that divides a machine's
accelerators, ``n = gpus / p`` instances fill it, each with the expected throughput ``theta(p)`` of
:class:`.capability.Capability`; the machine takes the p with the largest ``n theta(p)``. As no
instance spans machines, the best cluster is the best of each machine. Inspired by arXiv 2504.15303
("exhaustive search" over configurations, "resource amount and expected throughput"), whose
equations are not public: a reconstruction.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from .capability import Capability, capability
from .deployment import Deployment
from .kv_capacity import kv_blocks

DEGREES = (1, 2, 4, 8)


@dataclass(frozen=True)
class Machine:
    """A machine whose accelerators talk to each other.

    Attributes:
        deployment: an instance on some of them: model, formats, engine and limits. The search
            replaces ``tp``, and ``ep`` where experts are spread.
        gpus: how many there are.

    Raises:
        ValueError: dp is not 1.
    """

    deployment: Deployment
    gpus: int

    def __post_init__(self) -> None:
        if self.deployment.dp != 1:
            raise ValueError(
                f"dp = {self.deployment.dp}: the search is over tensor parallelism; give dp = 1"
            )

    def degrees(self) -> list[int]:
        """Return the tensor-parallel degrees that divide its accelerators."""
        return [p for p in DEGREES if self.gpus % p == 0]

    def instance(self, tp: int) -> Deployment:
        """Return one instance of a degree, its experts spread over all of its ranks or none.

        Raises:
            ValueError: the model does not divide like this, or its weights do not fit.
        """
        ep = tp if self.deployment.ep > 1 else 1
        deployment = replace(self.deployment, tp=tp, ep=ep)
        kv_blocks(deployment)
        return deployment


@dataclass(frozen=True)
class Demand:
    """What the instances have to serve.

    Attributes:
        prompt_tokens, output_tokens: mean lengths of a request.
        longest_tokens: prompt and output of the longest request, which every instance must hold.
        ttft_s: most seconds that the mean prompt may take to prefill, alone; waiting is not part of
            any estimate here.
        tpot_s: most seconds between the output tokens of a request.
    """

    prompt_tokens: float
    output_tokens: float
    longest_tokens: int = 0
    ttft_s: float = math.inf
    tpot_s: float = math.inf

    @property
    def lengths(self) -> tuple[float, float]:
        """Mean prompt and output tokens."""
        return self.prompt_tokens, self.output_tokens

    def check(self, deployment: Deployment) -> Capability:
        """Return what an instance is able to do.

        Raises:
            ValueError: it cannot hold the longest request, or prefills the mean one too slowly.
        """
        able = capability(deployment)
        longest = able.groups.longest(able.kv_blocks)
        wanted = max(self.longest_tokens, sum(self.lengths))
        if longest < wanted:
            raise ValueError(
                f"its KV cache holds {longest} tokens, the longest request {wanted:.0f}"
            )
        prefill_s = able.prefill_s(self.prompt_tokens)
        if prefill_s > self.ttft_s:
            raise ValueError(
                f"the mean prompt takes {1e3 * prefill_s:.0f} ms, {1e3 * self.ttft_s:g} are allowed"
            )
        return able


@dataclass(frozen=True)
class Configuration:
    """Equal instances that fill a machine.

    Attributes:
        deployment: one of them.
        instances: how many.
        batch: requests that run on each at once.
        tokens_per_s: output tokens per second of all of them.
    """

    deployment: Deployment
    instances: int
    batch: int
    tokens_per_s: float

    @property
    def tpot_s(self) -> float:
        """Seconds between the tokens of a request at that rate (Little's law)."""
        return self.instances * self.batch / self.tokens_per_s


def configuration(machine: Machine, tp: int, demand: Demand) -> Configuration:
    """Return what a machine does with instances of one degree.

    Raises:
        ValueError: why it cannot: shapes, memory, the longest request or the time per token.
    """
    deployment = machine.instance(tp)
    able = demand.check(deployment)
    batch = able.max_batch(*demand.lengths, demand.tpot_s)
    rate = able.throughput(*demand.lengths, batch)
    if batch == 1 and 1 / rate > demand.tpot_s:
        raise ValueError(
            f"one request alone takes {1e3 / rate:.1f} ms per token, "
            f"{1e3 * demand.tpot_s:g} are allowed"
        )
    instances = machine.gpus // tp
    return Configuration(deployment, instances, batch, instances * rate)


def configurations(machine: Machine, demand: Demand) -> tuple[list[Configuration], dict[int, str]]:
    """Return all that a machine can run, the best first, and why it cannot run other degrees."""
    found: list[Configuration] = []
    refused: dict[int, str] = {}
    for tp in machine.degrees():
        try:
            found.append(configuration(machine, tp, demand))
        except ValueError as error:
            refused[tp] = str(error)
    return sorted(found, key=lambda c: -c.tokens_per_s), refused


Chosen = list[Configuration | None]
"""A cluster's configurations, machine by machine; None: the machine stays idle."""


def best(machines: Iterable[Machine], demand: Demand) -> Chosen:
    """Return the best configuration of each machine, in order; None where there is none."""
    return [next(iter(configurations(machine, demand)[0]), None) for machine in machines]


def uniform(machines: Iterable[Machine], tp: int, demand: Demand) -> Chosen:
    """Return one degree on all machines, in order; None on those that cannot run it."""
    return [
        next((c for c in configurations(machine, demand)[0] if c.deployment.tp == tp), None)
        for machine in machines
    ]


def tokens_per_s(chosen: Chosen) -> float:
    """Return the output tokens per second of a cluster, its estimate."""
    return math.fsum(configuration.tokens_per_s for configuration in chosen if configuration)
