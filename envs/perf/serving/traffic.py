"""What the ranks of a replica on several nodes send over NICs, for each token of its steps.

All of it grows with the tokens of a step. A NIC carries, of an all-reduce of S bytes among R ranks,
g of them on each node, ``2 (R-1)/R S / g`` (rings over all NICs) or ``S / g`` (two nodes whose
switches add up); of tokens on their way to k experts each on N nodes ``k (N-1)/N`` copies in low
latency and ``v(N) (N-1)/N`` else (:mod:`.expert_parallel`); between pipeline stages a rank's part
of hidden state and residual. These are the bytes behind the times of :mod:`.across_nodes`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..network.internode import Group, switch_reduces
from ..network.nccl import bus_factor
from ..training.gang_phases import CHAIN, CYCLIC, Phase, merged, spaced
from . import expert_parallel as wide
from .deployment import Deployment


@dataclass(frozen=True)
class Traffic:
    """What a replica sends over NICs for each token of a step, in steps of many tokens.

    Attributes:
        phases: with bytes of each flow per token; none if its groups of ranks lie on one node.
        quick_tokens: tokens of a step up to which its experts are reached in low latency.
        quick_scale: how much more it sends for each token of such a step.
    """

    phases: tuple[Phase, ...]
    quick_tokens: int
    quick_scale: float

    @property
    def bytes_per_token(self) -> float:
        """What the NIC of a rank sends for each token of a step."""
        return sum(phase.bytes for phase in self.phases)


def traffic(deployment: Deployment) -> Traffic:
    """Return what a replica sends over NICs; ranks fill node after node, as its costs have it."""
    d = deployment
    phases = (*_reduces(d), *_exchange(d, quick=False), *_stages(d))
    quick = (*_reduces(d), *_exchange(d, quick=True), *_stages(d))
    bulk_bytes, quick_bytes = (sum(phase.bytes for phase in some) for some in (phases, quick))
    return Traffic(
        merged(phases),
        wide.LOW_LATENCY_TOKENS * d.gpus if d.all_to_all else 0,
        quick_bytes / bulk_bytes if bulk_bytes > 0 else 1.0,
    )


def _reduces(d: Deployment) -> Iterator[Phase]:
    """Yield the all-reduces of a stage's layers, as :mod:`.tokenwise` has them."""
    model = d.model
    calls = (model.layers + model.dense_layers) / d.pp
    yield from _reduce(d, d.tp, calls / d.dp)
    if model.moe_layers and not d.all_to_all:
        yield from _reduce(d, d.stage_gpus, model.moe_layers / d.pp)


def _reduce(d: Deployment, ranks: int, calls: float) -> Iterator[Phase]:
    """Yield so many all-reduces among neighbouring ranks, if these lie on several nodes."""
    where = d.group(ranks)
    if where.nodes > 1:
        size = calls * 2 * d.model.hidden * _wire_share(d, where)
        yield Phase(ranks, 1, where.local, CYCLIC, size)


def _wire_share(d: Deployment, where: Group) -> float:
    """Return bytes over each NIC per byte that is all-reduced, as large sizes have it."""
    if where.nodes == 2 and where.local > 1 and switch_reduces(d.gpu):
        return 1.0 / where.local
    return bus_factor("all_reduce", where.ranks) / where.local


def _exchange(d: Deployment, quick: bool) -> Iterator[Phase]:
    """Yield what tokens on their way to experts and back put on NICs, from node to node."""
    where = d.group(d.stage_gpus)
    if not d.all_to_all or where.nodes == 1:
        return
    n, k = where.nodes, d.model.active_experts
    copies = (k if quick else wide.places_hit(n, k)) * (n - 1) / n
    both_ways = sum(wide.token_bytes(d.model.hidden).values()) * d.expert_imbalance
    size = d.model.moe_layers / d.pp / d.stage_gpus * copies * both_ways
    shifts = spaced(n - 1, most=2)
    for shift in shifts:
        yield Phase(where.ranks, 1, where.local * shift, CYCLIC, size / len(shifts))


def _stages(d: Deployment) -> Iterator[Phase]:
    """Yield what a stage passes on, if any two lie on different nodes."""
    if d.pp > 1 and d.gpus > d.network.gpus_per_node:
        size = 2 * 2 * d.model.hidden / d.tp / d.dp
        yield Phase(d.pp, d.stage_gpus, 1, CHAIN, size)
