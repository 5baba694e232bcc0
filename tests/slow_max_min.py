"""Max-min fair rates by textbook progressive filling, solved anew each time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence


def max_min(
    limits: Mapping[int, float],
    weights: Mapping[int, Mapping[int, float]],
    capacity: Sequence[float],
    equal: float = 1e-12,
) -> dict[int, float]:
    """Raise the rates of all jobs together, freeze those that reach a limit or fill a link.

    Levels closer than the share ``equal`` of each other are the same, 0 if numbers do not round.
    """
    rates: dict[int, float] = {}
    while len(rates) < len(limits):
        room, open_weight = list(capacity), [0.0] * len(capacity)
        for j, links in weights.items():
            for link, weight in links.items():
                if j in rates:
                    room[link] -= weight * rates[j]
                else:
                    open_weight[link] += weight
        levels = {link: room[link] / open_ for link, open_ in enumerate(open_weight) if open_}
        level = min(
            min(levels.values(), default=math.inf),
            min(limit for j, limit in limits.items() if j not in rates),
        )
        same = level * (1 + equal)
        for j in [j for j in limits if j not in rates]:
            if limits[j] <= same or any(levels[link] <= same for link in weights[j]):
                rates[j] = level
    return rates
