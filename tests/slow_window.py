"""Which pending gangs can be chosen, read slowly: from the rule in words, by sorting.

Nothing here looks at the engine (``envs/engine/decide/window.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import cycle

from slow_plans import NODE, Gang, Site


@dataclass(frozen=True)
class Waiting:
    """A pending gang: its place by age, what orders weigh, and whether it could start now."""

    age: int
    estimate_s: float
    gpus: int
    left_s: float
    priority: float
    is_ready: bool


ORDERS: tuple[Callable[[Waiting], float], ...] = (
    lambda gang: gang.age,
    lambda gang: gang.estimate_s,
    lambda gang: gang.gpus,
    lambda gang: gang.gpus * max(gang.left_s, 0.0),
    lambda gang: -gang.priority,
)
"""Who has a turn: the first by age, run time, size, GPU time left and priority."""


def choose(pending: list[Waiting], size: int, is_preemptive: bool) -> list[Waiting]:
    """The window, by age: the oldest, then whom the orders name in turn, then by age again."""
    if len(pending) <= size:
        return pending
    chosen, ready = pending[:1], [gang for gang in pending if gang.is_ready]
    for group in [ready, pending] if is_preemptive else [ready]:
        for order in cycle(ORDERS):
            rest = sorted((gang for gang in group if gang not in chosen), key=order)
            if not rest or len(chosen) == size:
                break
            chosen.append(rest[0])
    chosen += [gang for gang in pending if gang not in chosen]
    return sorted(chosen[:size], key=lambda gang: gang.age)


def has_room(site: Site, gang: Gang, pools: list[int]) -> bool:
    """Some node has the GPUs free, or some domain of the required level whole free nodes."""
    return any(
        max(free) >= gang.gpus or len(whole) * site.node_gpus(pool) >= gang.gpus
        for pool in pools
        for free, whole in domains(site, pool, gang.required)
    )


def domains(site: Site, pool: int, level: int) -> Iterator[tuple[list[int], list[int]]]:
    """Free GPUs of the nodes of each domain of a pool, and its whole free nodes."""
    leafs = site.leafs(pool)
    for group in [[[i] for i in leafs], [[i] for i in leafs], site.pods(pool), [leafs]][level]:
        free = [site.free[node] for leaf in group for node in site.nodes(leaf)]
        whole = [node for leaf in group for node in site.whole(leaf)]
        yield free, whole[:1] if level == NODE else whole
