"""How many instances should prefill and how many decode, where the two phases run apart.

A prefill instance takes ``1 / T_pre(s_in)`` requests per second, a decode instance with B of them
at once ``B / (s_out T_dec(B, B (s_in + s_out / 2)))``, with the linear times of
:class:`.capability.Capability`. What a cluster serves is the smaller of the two sums; the search
makes it as large as it gets, over degrees and numbers of both kinds of instances on every machine.
Source: the matching of rates by which DistServe (OSDI 2024, section 4) and aiconfigurator choose
their ratio. Left out: moving the KV cache, waiting, and both phases' inefficiency at their limit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from .deploy import Demand, Machine
from .deployment import Deployment


@dataclass(frozen=True)
class Pool:
    """Equal instances of one phase on a machine.

    Attributes:
        deployment: one of them.
        instances: how many.
        batch: requests that run on each at once.
        requests_per_s: of all of them.
    """

    deployment: Deployment
    instances: int
    batch: int
    requests_per_s: float


@dataclass(frozen=True)
class Split:
    """What each machine does: pools by phase, one pair a machine; None: none of that phase."""

    pools: tuple[tuple[Pool | None, Pool | None], ...] = ()

    @property
    def phases_per_s(self) -> tuple[float, float]:
        """Requests per second that can be prefilled, and decoded."""
        return (
            math.fsum(prefill.requests_per_s for prefill, _ in self.pools if prefill),
            math.fsum(decode.requests_per_s for _, decode in self.pools if decode),
        )

    @property
    def ratio(self) -> tuple[int, int]:
        """Instances that prefill, and that decode."""
        return (
            sum(prefill.instances for prefill, _ in self.pools if prefill),
            sum(decode.instances for _, decode in self.pools if decode),
        )

    @property
    def requests_per_s(self) -> float:
        """Requests per second that pass through both phases."""
        return min(self.phases_per_s)


def prefill_pool(machine: Machine, tp: int, instances: int, demand: Demand) -> Pool:
    """Return instances that prefill one prompt after the other.

    Raises:
        ValueError: why they cannot.
    """
    deployment = machine.instance(tp)
    able = demand.check(deployment)
    return Pool(deployment, instances, 1, instances / able.prefill_s(demand.prompt_tokens))


def decode_pool(machine: Machine, tp: int, instances: int, demand: Demand) -> Pool:
    """Return instances that decode as many requests at once as memory and ``tpot_s`` allow.

    Raises:
        ValueError: why they cannot.
    """
    deployment = machine.instance(tp)
    able = demand.check(deployment)
    context = demand.prompt_tokens + demand.output_tokens / 2
    b0, b1, b2 = able.decode
    batch = able.max_batch(*demand.lengths)
    if math.isfinite(demand.tpot_s):
        batch = min(batch, math.floor((demand.tpot_s - b0) / (b1 + b2 * context)))
    if batch < 1:
        raise ValueError(
            f"one request alone takes {1e3 * able.decode_s(1, context):.1f} ms per token, "
            f"{1e3 * demand.tpot_s:g} are allowed"
        )
    stay_s = demand.output_tokens * able.decode_s(batch, batch * context)
    return Pool(deployment, instances, batch, instances * batch / stay_s)


def best_split(machines: Iterable[Machine], demand: Demand) -> Split:
    """Return the instances of both phases that serve most requests per second.

    Exact: machines are added one by one, and only splits are kept of which no other one prefills
    and decodes as much.

    Raises:
        ValueError: one phase runs on no machine.
    """
    kept = [Split()]
    for machine in machines:
        own = _front(Split((pair,)) for pair in _pairs(machine, demand))
        kept = _front(Split(split.pools + more.pools) for split in kept for more in own)
    chosen = max(kept, key=lambda split: split.requests_per_s)
    if chosen.requests_per_s == 0:
        raise ValueError("no machine can run both phases, nor can one prefill and another decode")
    return chosen


def _pairs(machine: Machine, demand: Demand) -> Iterator[tuple[Pool | None, Pool | None]]:
    """Yield what a machine can do: prefill instances, and decode instances on the GPUs left."""
    prefills, decodes = (
        {tp: pool for tp in machine.degrees() if (pool := _try(build, machine, tp, demand))}
        for build in (prefill_pool, decode_pool)
    )
    for tp, decode in decodes.items():
        yield None, _of(decode, machine.gpus // tp)
    for tp, prefill in prefills.items():
        for instances in range(1, machine.gpus // tp + 1):
            left = machine.gpus - instances * tp
            yield _of(prefill, instances), None
            for other, decode in decodes.items():
                if other <= left:
                    yield _of(prefill, instances), _of(decode, left // other)
    if not decodes and not prefills:
        yield None, None


def _try(
    build: Callable[[Machine, int, int, Demand], Pool], machine: Machine, tp: int, demand: Demand
) -> Pool | None:
    try:
        return build(machine, tp, 1, demand)
    except ValueError:
        return None


def _of(pool: Pool, instances: int) -> Pool:
    """Return a pool of one instance, times so many."""
    return Pool(pool.deployment, instances, pool.batch, instances * pool.requests_per_s)


def _front(splits: Iterable[Split]) -> list[Split]:
    """Return those that no other one beats in one phase without falling behind in the other."""
    kept: list[Split] = []
    most_decode = -1.0
    rated = [(split.phases_per_s, split) for split in splits]
    for (_, decode), split in sorted(rated, key=lambda pair: pair[0], reverse=True):
        if decode > most_decode:
            kept.append(split)
            most_decode = decode
    return kept
