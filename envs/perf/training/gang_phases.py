"""Phases of communication: the traffic of a job as few, regular steps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..network.internode import Group
from .communication import SEND_RECV, Communication
from .modes import CHAIN, CYCLIC, XOR

MOST_PHASES = 8
"""Of a profile; more are sampled or merged, for the engine walks over all of them."""
GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True)
class Phase:
    """One step of communication: every rank sends one flow at most.

    Ranks are numbered over the whole job, node by node. The ranks of a group stand ``stride``
    apart, groups tile the job. Place q of a group of ``ranks`` sends to ``(q + shift) mod ranks``
    (CYCLIC), ``q ^ shift`` (XOR) or ``q + shift`` if there is such a place (CHAIN).

    Attributes:
        ranks: ranks per group.
        stride: distance of neighbouring ranks of a group.
        shift: how far a flow goes; below 0 backwards.
        mode: CYCLIC, XOR or CHAIN.
        bytes: of each flow, per iteration.
    """

    ranks: int
    stride: int
    shift: int
    mode: int
    bytes: float

    def flows(self, gpus: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return sending and receiving ranks of a job of ``gpus`` GPUs, int64 (flows,)."""
        rank = np.arange(gpus)
        place = rank // self.stride % self.ranks
        if self.mode == CYCLIC:
            other = (place + self.shift) % self.ranks
        else:
            other = place ^ self.shift if self.mode == XOR else place + self.shift
        to = rank + (other - place) * self.stride
        sent = (other >= 0) & (other < self.ranks) & (other != place) & (to < gpus)
        return rank[sent], to[sent]


def seconds(
    phases: Iterable[Phase],
    gpus: int,
    node_gpus: int,
    nic_bytes_per_s: float,
    scale_up_bytes_per_s: float,
) -> float:
    """Return seconds of all phases on full nodes if no two flows ever meet."""
    total = 0.0
    for phase in phases:
        src, dst = phase.flows(gpus)
        away = bool(np.any(src // node_gpus != dst // node_gpus))
        total += phase.bytes / (nic_bytes_per_s if away else scale_up_bytes_per_s)
    return total


def merged(phases: Iterable[Phase]) -> tuple[Phase, ...]:
    """Return the phases with the bytes of those between the same partners added up."""
    total: dict[Phase, float] = {}
    for phase in phases:
        key = replace(phase, bytes=0.0)
        total[key] = total.get(key, 0.0) + phase.bytes
    return tuple(replace(key, bytes=size) for key, size in total.items() if size > 0)


def phases_of(part: Communication) -> tuple[Phase, ...]:
    """Return the phases of one kind of message of a training job.

    Ring: ``1/local`` of the bytes between nodes, slot to slot, the rest around the node. All-to-all
    (PXN): around the node, then slot to slot with other nodes. Pipeline: outputs forth, gradients
    back.
    """
    g, ranks = part.where.local, part.where.ranks
    if part.axis == "pp":
        each = part.calls * part.size_bytes / 2
        return tuple(Phase(ranks, part.stride, way, CHAIN, each) for way in (1, -1))
    if part.op == SEND_RECV:
        return (Phase(ranks, part.stride, 1, CYCLIC, part.calls * part.size_bytes),)
    if part.op == "all_to_all":
        inside = Phase(g, part.stride, 1, CYCLIC, part.scale_up_bytes)
        shifts = spaced(part.where.nodes - 1, most=2)
        each = part.nic_bytes / max(1, len(shifts))
        across = (Phase(ranks, part.stride, g * k, CYCLIC, each) for k in shifts)
        return merged((inside, *across))
    return ring(part.where, part.stride, part.scale_up_bytes, part.nic_bytes)


def ring(where: Group, stride: int, inside: float, across: float) -> tuple[Phase, ...]:
    """Return a ring: bytes of each rank to its neighbour in the node, and to the next node."""
    g = where.local
    return merged(
        (
            Phase(g, stride, 1, CYCLIC, inside if g > 1 else 0.0),
            Phase(where.ranks, stride, g, CYCLIC, across if where.nodes > 1 else 0.0),
        )
    )


def halving_doubling(gpus: int) -> tuple[Phase, ...]:
    """Return an all-reduce of one byte: ``1/2^(t+1)`` with the partner 2^t away, forth and back.

    Raises:
        ValueError: if ``gpus`` is not a power of two.
    """
    if gpus & (gpus - 1):
        raise ValueError(f"gpus = {gpus}: halving_doubling needs a power of two; use ring")
    return tuple(Phase(gpus, 1, 1 << t, XOR, 0.5**t) for t in range(gpus.bit_length() - 1))


def pairwise(gpus: int) -> tuple[Phase, ...]:
    """Return an all-to-all of one byte per pair: in step k rank i sends to rank i+k.

    Of many steps only evenly spaced ones remain and carry the bytes of all.
    """
    shifts = spaced(gpus - 1)
    each = (gpus - 1) / max(1, len(shifts))
    return tuple(Phase(gpus, 1, k, CYCLIC, each) for k in shifts)


def spaced(count: int, most: int = MOST_PHASES) -> list[int]:
    """Return at most ``most`` numbers spread evenly over 1 to ``count``.

    One from each of equal intervals, at changing places in it: equal distances would be multiples
    of the node size, and show one slot of other nodes only.
    """
    if count <= most:
        return list(range(1, count + 1))
    ends = [i * count // most for i in range(most + 1)]
    place = [(0.5 + i * GOLDEN) % 1 for i in range(most)]
    return [1 + ends[i] + int(place[i] * (ends[i + 1] - ends[i])) for i in range(most)]


def fewer(phases: tuple[Phase, ...]) -> tuple[Phase, ...]:
    """Return at most :data:`MOST_PHASES`: the last ones, which carry least, become one."""
    kept, rest = phases[:MOST_PHASES], phases[MOST_PHASES:]
    if not rest:
        return phases
    last = kept[-1].bytes + sum(phase.bytes for phase in rest)
    return (*kept[:-1], replace(kept[-1], bytes=last))
