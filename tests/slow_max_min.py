"""Max-min fair rates by textbook progressive filling, solved anew each time."""

from __future__ import annotations

import numpy as np


def max_min(
    limits: dict[int, float], weights: dict[int, dict[int, float]], capacity: np.ndarray
) -> dict[int, float]:
    """Raise the rates of all jobs together, freeze those that reach a limit or fill a link."""
    rates: dict[int, float] = {}
    while len(rates) < len(limits):
        room = capacity.astype(float).copy()
        open_weight = np.zeros(len(capacity))
        for j, links in weights.items():
            for link, weight in links.items():
                if j in rates:
                    room[link] -= weight * rates[j]
                else:
                    open_weight[link] += weight
        levels = {link: room[link] / open_weight[link] for link in np.flatnonzero(open_weight)}
        level = min(
            min(levels.values(), default=np.inf),
            min(limit for j, limit in limits.items() if j not in rates),
        )
        for j in [j for j in limits if j not in rates]:
            full = any(levels[link] <= level * (1 + 1e-12) for link in weights[j])
            if full or limits[j] <= level * (1 + 1e-12):
                rates[j] = level
    return rates
