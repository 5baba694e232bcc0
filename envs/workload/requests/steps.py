"""Steps of rollouts, one after the other, and sessions that start others: what waits for what."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .parameters import check

FORK = np.dtype([("parent", "i4"), ("first", "i4"), ("count", "i4")])
"""A turn that starts sub-sessions: its row, and the rows of their first turns, side by side. The
turn that follows it waits for the last answer of each of them."""


@dataclass(frozen=True)
class Steps:
    """Steps of rollouts with new weights between them.

    Attributes:
        count: of them, each with as many sessions.
        next_at: share of a step's sessions after whose end the next one begins; below 1 the others
            go on beside it, as in asynchronous training (AReaL, arXiv:2505.24298).
        update_s: seconds until all replicas have the new weights. Source of the default: the
            checkpoint-engine of Moonshot AI, about 20 s for a model of 10^12 parameters.
        keep_cache: whether KV caches stay, as in PipelineRL (arXiv:2509.19128), or are dropped.
    """

    count: int = 1
    next_at: float = 1.0
    update_s: float = 20.0
    keep_cache: bool = False

    def __post_init__(self) -> None:
        check(self, "count", 1, 2**16)
        check(self, "next_at", 0.01, 1.0)
        check(self, "update_s", 0.0, 1e6)
        if not isinstance(self.keep_cache, bool):
            raise ValueError(f"Steps.keep_cache = {self.keep_cache!r} must be true or false")

    def most(self, sessions: int) -> int:
        """Return how many of a step's ``sessions`` have to end before the next step begins."""
        return math.ceil(self.next_at * sessions - 1e-9)


ONE_STEP = Steps()


def check_concurrency(most: int, steps: Steps) -> None:
    """Refuse a bound on the sessions open at once that is none, or that goes with steps.

    Raises:
        ValueError: naming the value and what is allowed.
    """
    if isinstance(most, bool) or not isinstance(most, int) or not 0 <= most <= 2**16:
        raise ValueError(f"max_concurrency = {most!r} must be a whole number in [0, {2**16}]")
    if most and steps.count > 1:
        raise ValueError(
            f"max_concurrency = {most} is not modelled with steps.count = {steps.count}: a step "
            "begins with all of its sessions; leave one of the two out"
        )


def waiting_for_others(
    think_s: NDArray[np.float64], begins_s: NDArray[np.float64], at_first: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return arrivals and waits of first turns, of which most wait for sessions before them.

    Those are the ones of later steps, and those that stand in line where only so many are open.

    Args:
        think_s: of all turns (N,), NaN for first ones, which stand first.
        begins_s: of each session after the begin of its step, or after its turn in the line (S,).
        at_first: sessions that begin by the clock.
    """
    arrival_s, think_s = np.full(len(think_s), np.nan), think_s.copy()
    arrival_s[:at_first] = begins_s[:at_first]
    think_s[at_first : len(begins_s)] = begins_s[at_first:]
    return arrival_s, think_s
