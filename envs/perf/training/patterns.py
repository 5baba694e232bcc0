"""The flows of a collective, step by step: who sends how much to whom.

Ranks of a group are numbered node by node, rank = node * local + slot; a rank's slot is its rail.
Steps run one after the other; the flows of a step run side by side and the slowest ends it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..network.internode import Group


@dataclass(frozen=True)
class Step:
    """Equal flows side by side, ``repeat`` times over.

    Attributes:
        src: sending ranks, int64 (flows,).
        dst: receiving ranks, int64 (flows,).
        size_bytes: bytes of each flow.
        repeat: how many such steps follow each other.
    """

    src: NDArray[np.int64]
    dst: NDArray[np.int64]
    size_bytes: float
    repeat: int = 1


def steps(op: str, algorithm: str, size_bytes: float, where: Group) -> tuple[Step, ...]:
    """Return the steps of one collective of ``size_bytes`` (payload: the whole buffer of a rank).

    ==================  ==========================================  =====================
    algorithm           op                                          ranks
    ==================  ==========================================  =====================
    ring                all_reduce, all_gather, reduce_scatter      any
    halving_doubling    all_reduce, all_gather, reduce_scatter      power of two
    tree                all_reduce (two trees, half the data each)  any
    hierarchical        all_reduce (in nodes, rails, in nodes)      any
    pairwise            all_to_all                                  any
    pxn                 all_to_all (to the rail, then across)       any
    chain               send_recv (to the next rank and back)       any
    cycle               send_recv (to the next rank, round)         any
    ==================  ==========================================  =====================

    Raises:
        ValueError: if the algorithm does not do this operation or number of ranks.
    """
    if (op, algorithm) not in _BUILDERS:
        known = ", ".join(f"{a} for {o}" for o, a in _BUILDERS)
        raise ValueError(f"no {algorithm!r} algorithm for {op!r}; use one of {known}")
    if where.ranks == 1:
        return ()
    return _BUILDERS[op, algorithm](size_bytes, where)


def sent_bytes(flows: tuple[Step, ...], where: Group, between_nodes: bool = False) -> NDArray:
    """Return bytes that each rank sends, float64 (ranks,), or only those that leave its node."""
    total = np.zeros(where.ranks)
    for step in flows:
        away = step.src // where.local != step.dst // where.local
        count = np.bincount(step.src[away] if between_nodes else step.src, minlength=where.ranks)
        total += count * (step.size_bytes * step.repeat)
    return total


def slowest_flow_s(
    flows: tuple[Step, ...], where: Group, inside_bytes_per_s: float, link_bytes_per_s: float
) -> float:
    """Return seconds if every step ends with its slowest flow and no link is shared."""
    seconds = 0.0
    for step in flows:
        away = bool(np.any(step.src // where.local != step.dst // where.local))
        rate = min(inside_bytes_per_s, link_bytes_per_s) if away else inside_bytes_per_s
        seconds += step.repeat * step.size_bytes / rate
    return seconds


def _ring(passes: int) -> Callable[[float, Group], tuple[Step, ...]]:
    """In each of n-1 steps a pass every rank hands ``1/n`` of the buffer on.

    The buffer is split over as many rings as a node has ranks. Ring c enters an even node at slot
    c, climbs and leaves it at slot c-1, where it enters the next, descends and leaves at slot c:
    all rails carry the same and hops between nodes keep to theirs (but one if N is odd).
    """

    def build(size: float, where: Group) -> tuple[Step, ...]:
        g, n = where.local, where.ranks
        place = np.arange(n)
        node, hop = place // g, place % g
        climbed = np.where(node % 2, g - 1 - hop, hop)
        orders = [node * g + (c + climbed) % g for c in range(g)]
        src = np.concatenate(orders)
        dst = np.concatenate([np.roll(order, -1) for order in orders])
        return (Step(src, dst, size / g / n, passes * (n - 1)),)

    return build


def _halving(size: float, where: Group) -> tuple[Step, ...]:
    """Reduce-scatter: halves, then quarters ... with partners 1, 2, 4 ... ranks away."""
    n = where.ranks
    if n & (n - 1):
        raise ValueError(f"halving_doubling on {n} ranks: use a power of two, or a ring")
    ranks = np.arange(n)
    return tuple(
        Step(ranks, ranks ^ (1 << t), size / 2 ** (t + 1)) for t in range(n.bit_length() - 1)
    )


def _doubling(size: float, where: Group) -> tuple[Step, ...]:
    """All-gather: the steps of the reduce-scatter backwards."""
    return _halving(size, where)[::-1]


def _tree(size: float, where: Group) -> tuple[Step, ...]:
    """Reduce up and broadcast down two trees, pipelined, so that no rank is inside of both.

    The second tree is the first one mirrored (even number of ranks) or shifted by one (odd).
    """
    n = where.ranks
    child = np.arange(1, n)
    parent = np.array([_parent(int(r), n) for r in child])
    if n % 2:
        child2, parent2 = (child + 1) % n, (parent + 1) % n
    else:
        child2, parent2 = n - 1 - child, n - 1 - parent
    src, dst = np.concatenate([child, child2]), np.concatenate([parent, parent2])
    return Step(src, dst, size / 2), Step(dst, src, size / 2)


def _parent(rank: int, ranks: int) -> int:
    """Return the parent in the in-order binary tree below rank 0: odd ranks are leaves.

    A rank ``odd * 2^k`` sits k levels up; its parent is the neighbour at level k+1, the upper one
    where that exists.
    """
    level = rank & -rank
    upper = (rank ^ level) | (level << 1)
    return upper if upper < ranks else rank ^ level


def _hierarchical(size: float, where: Group) -> tuple[Step, ...]:
    """Reduce-scatter in nodes, ring all-reduce on each rail, all-gather in nodes."""
    g, n = where.local, where.nodes
    ranks = np.arange(g * n)
    inside = Step(ranks, ranks // g * g + (ranks + 1) % g, size / g, g - 1)
    rails = Step(ranks, (ranks + g) % (g * n), size / g / n, 2 * (n - 1))
    found = [inside, rails, inside]
    return tuple(step for step in found if step.repeat)


def _pairwise(size: float, where: Group) -> tuple[Step, ...]:
    """In step k rank i sends rank i+k its share."""
    ranks = np.arange(where.ranks)
    return tuple(Step(ranks, np.roll(ranks, -k), size / len(ranks)) for k in range(1, len(ranks)))


def _pxn(size: float, where: Group) -> tuple[Step, ...]:
    """Hand everything for slot j to the local GPU of that slot, then exchange along the rails."""
    g, n = where.local, where.nodes
    ranks = np.arange(g * n)
    inside = [Step(ranks, ranks // g * g + (ranks + k) % g, size / g) for k in range(1, g)]
    across = [Step(ranks, (ranks + k * g) % (g * n), size / n) for k in range(1, n)]
    return tuple(inside + across)


def _chain(size: float, where: Group) -> tuple[Step, ...]:
    """Outputs go to the next stage of a pipeline, their gradients come back."""
    ranks = np.arange(where.ranks)
    return Step(ranks[:-1], ranks[1:], size), Step(ranks[1:], ranks[:-1], size)


def _cycle(size: float, where: Group) -> tuple[Step, ...]:
    """Every rank passes its block to the next."""
    ranks = np.arange(where.ranks)
    return (Step(ranks, np.roll(ranks, -1), size),)


_BUILDERS: dict[tuple[str, str], Callable[[float, Group], tuple[Step, ...]]] = {
    ("all_reduce", "ring"): _ring(2),
    ("all_gather", "ring"): _ring(1),
    ("reduce_scatter", "ring"): _ring(1),
    ("all_reduce", "halving_doubling"): lambda s, w: _halving(s, w) + _doubling(s, w),
    ("all_gather", "halving_doubling"): _doubling,
    ("reduce_scatter", "halving_doubling"): _halving,
    ("all_reduce", "tree"): _tree,
    ("all_reduce", "hierarchical"): _hierarchical,
    ("all_to_all", "pairwise"): _pairwise,
    ("all_to_all", "pxn"): _pxn,
    ("send_recv", "chain"): _chain,
    ("send_recv", "cycle"): _cycle,
}
