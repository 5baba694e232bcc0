"""The cost of a replica, a weighted sum of few terms in their own units: what little search finds.

Where :mod:`.linear` weighs every column, this weighs what has a name: what a request takes there,
and what it costs those who are there already. A dozen numbers can be found where episodes are long
and tell little, so that there cannot be many: steps of rollouts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .linear import check_weights
from .policy import Observation
from .routing.router import Router

if TYPE_CHECKING:
    from gpuyard.envs.scenario import Scenario

TERMS: dict[str, float] = {
    "wait_s": 1.0,
    "prefill_s": 1.0,
    "estimate*step_s": 1.0,
    "in_flight*prefill_s": 0.0,  # while a prompt is computed those who decode there get no token
    "in_flight*step_s": 0.0,
    "work_s": 0.0,
    "session_last": 0.0,
    "kv_usage": 0.0,
    "kv_demand": 0.0,
    "capacity": 0.0,
    "progress*in_flight*prefill_s": 0.0,
    "progress*session_last": 0.0,
}
"""The terms that are searched, and where the search begins: at ``routing/predicted-latency``, as it
is where reports are never late."""

_BLOCKS = (("candidates", "route"), ("queue", "route"), ("cluster", "common"))
"""Where the columns of a term are looked for, in this order."""


class Cost(Router):
    """The replica with the lowest weighted sum of terms, each a product of columns in their units.

    Args:
        weights: by term, such as ``{"wait_s": 1.0, "in_flight*prefill_s": 2.0}``. A column is one
            of the candidates, else one of the request at hand (row 0 of the queue), else a common
            one of the cluster.
    """

    def __init__(self, weights: Mapping[str, float]):
        check_weights("cost", weights)
        self.weights = dict(weights)

    def reset(self, scenario: Scenario, num_envs: int, seed: int = 0) -> None:
        """Find the columns.

        Raises:
            ValueError: the scenario asks for other decisions, or has no such column.
        """
        super().reset(scenario, num_envs, seed)
        names = {name for term in self.weights for name in term.split("*")}
        self._factors = {name: self._place(name) for name in sorted(names)}

    def score(self, observation: Observation) -> NDArray[np.float64]:
        """Return minus the cost, shape (n, C)."""
        values: dict[str, NDArray[np.float64]] = {}
        for name, (key, full) in self._factors.items():
            column = self.read(observation, key, full)
            if key == "queue":
                column = column[:, :1]
            values[name] = column[:, np.newaxis] if key == "cluster" else column
        cost = np.zeros(observation["action_mask"].shape)
        for term, weight in self.weights.items():
            part = np.full_like(cost, weight)
            for name in term.split("*"):
                part *= values[name]
            cost += part
        return -cost

    def _place(self, name: str) -> tuple[str, str]:
        """Return the key and the full name of a column."""
        for key, block in _BLOCKS:
            if f"{block}.{name}" in self.layout.names(key):
                return key, f"{block}.{name}"
        known = ", ".join(
            full.partition(".")[2]
            for key, block in _BLOCKS
            for full in self.layout.names(key)
            if full.startswith(block)
        )
        raise ValueError(f"cost: weights name {name!r}: no such column; there are {known}")
