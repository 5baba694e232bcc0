"""Slurm's topology/block: base blocks that aggregate in powers of two, and segments.

Source: Slurm's ``topology/block`` plugin (``eval_nodes_block.c``). A base block is a leaf; B, its
size, is that of the largest one. For m nodes:

1. the needed level is ``ceil(log2(ceil(m / B)))``, rounded up to a configured one; beyond the
   highest the whole topology is one block. Lower blocks are those of the next configured level
   below the needed one, and the job may touch at most ``ceil(m / size of a lower block)`` of them;
2. of the blocks that hold the job, the one with the fewest free nodes;
3. inside it base blocks are taken one at a time: from lower blocks in use first, then from a
   lower block that holds the rest (the tightest; if none does, the fullest of free nodes), and of
   those base blocks the tightest that holds the rest, or else the one with the most free nodes.

A job of S-node segments places each segment by this rule, in whatever blocks it fits.
"""

from __future__ import annotations

import numpy as np

from .planner import TopologyPlanner
from .request import LEAF, Ints, Request, fill, totals


def block_levels(pods: int, base: int, levels: tuple[int, ...]) -> tuple[int | None, int]:
    """Return the level of the block that a job needs and that of its lower blocks.

    Args:
        pods: nodes that the job needs.
        base: nodes of a base block.
        levels: configured levels, ascending, starting with 0; a block of level k is 2^k base
            blocks.

    Returns:
        The needed level, None for the whole topology; and the lower one (0: base blocks).
    """
    needed = (-(-pods // base) - 1).bit_length()  # ceil(log2(base blocks))
    lower = max((level for level in levels if level < needed), default=0)
    return next((level for level in levels if level >= needed), None), lower


def choose_block(room: Ints, pods: int, base: int, levels: tuple[int, ...]) -> Ints | None:
    """Return the base blocks of the block that a job gets, or None if none holds it.

    Args:
        room: int64 (base blocks,), free nodes of each.
        pods: nodes that the job needs.
        base: nodes of a base block.
        levels: configured levels.
    """
    needed, lower = block_levels(pods, base, levels)
    index = np.arange(len(room))
    block = index >> needed if needed is not None else np.zeros_like(index)
    most = -(-pods // (base << lower))
    best, least = None, np.inf
    for number in range(block[-1] + 1):
        inside = index[block == number]
        parts = totals(inside >> lower, room[inside])
        free = parts.sum()
        if np.sort(parts)[::-1][:most].sum() >= pods and free < least:
            best, least = inside, free
    return best


def base_blocks_in_turn(room: Ints, inside: Ints, pods: int, lower: int) -> list[int]:
    """Return the base blocks that a job takes, in order, out of those of its block.

    Args:
        room: int64 (base blocks,), free nodes of each.
        inside: base blocks of the job's block, which holds it.
        pods: nodes that the job needs.
        lower: level of its lower blocks.
    """
    room = room.copy()
    taken: list[int] = []
    while pods > 0:
        part = totals(inside >> lower, room[inside])

        def cost(number: int, part: Ints = part, pods: int = pods) -> tuple:
            around, mine = part[number >> lower], room[number]
            used = any(number >> lower == other >> lower for other in taken)
            return not used, *_tightness(around, pods), *_tightness(mine, pods), number

        block = min(inside[room[inside] > 0].tolist(), key=cost)
        taken.append(block)
        pods -= room[block]
        room[block] = 0
    return taken


def _tightness(room: int, pods: int) -> tuple[bool, int]:
    """Order: what fits first, the tightest; then what does not, the largest."""
    fits = room >= pods
    return not fits, int(room if fits else -room)


class SlurmBlock(TopologyPlanner):
    """Keeps each job, or each segment of it, inside the smallest block that may hold it.

    Args:
        levels: configured levels of aggregation (Slurm's BlockSizes = B x 2^level), ascending; 0
            must be the first. The default has base blocks only: what does not fit in one takes
            the fewest that may hold it.
        segment_nodes: nodes of a segment; 0: jobs are placed whole. Where it does not divide a job,
            or is larger, that job is placed whole (Slurm rejects it in the first case).
        order: see :class:`.planner.TopologyPlanner`.
        pod_gpus: see there.

    Raises:
        ValueError: levels that do not ascend from 0, or a negative segment.
    """

    def __init__(
        self,
        *,
        levels: tuple[int, ...] = (0,),
        segment_nodes: int = 0,
        order: str = "fifo-first-fit",
        pod_gpus: int | None = None,
    ) -> None:
        super().__init__(order=order, pod_gpus=pod_gpus)
        levels = tuple(levels)
        if not levels or levels[0] != 0 or list(levels) != sorted(set(levels)):
            raise ValueError(f"levels = {levels!r} must ascend from 0, for example (0, 1, 3)")
        if not (isinstance(segment_nodes, int) and segment_nodes >= 0):
            raise ValueError(f"segment_nodes = {segment_nodes!r} must be a whole number, 0 or more")
        self.levels, self.segment_nodes = levels, segment_nodes

    def choose(self, request: Request) -> Ints | None:
        """Return the lowest nodes of the base blocks of each segment, in order of their number."""
        tightest = request.tightest()
        if tightest is None:
            return None
        _, block = np.unique(request.tree[LEAF][request.in_pool], return_inverse=True)
        nodes, slots = np.flatnonzero(request.in_pool), tightest.slots[request.in_pool]
        base = int(np.bincount(block).max()) * max(1, request.node_gpus // int(request.sizes[0]))
        segment = self.segment_nodes
        if not segment or request.pods % segment or segment > request.pods:
            segment = request.pods
        chosen: list[Ints] = []
        for _ in range(request.pods // segment):
            room = totals(block, slots)
            inside = choose_block(room, segment, base, self.levels)
            if inside is None:
                return None
            _, lower = block_levels(segment, base, self.levels)
            order = [
                np.flatnonzero(block == number)
                for number in base_blocks_in_turn(room, inside, segment, lower)
            ]
            part = fill(np.concatenate(order), slots, segment)
            if part is None:
                return None
            np.subtract.at(slots, part, 1)
            chosen.append(np.sort(part))
        return nodes[np.concatenate(chosen)]
