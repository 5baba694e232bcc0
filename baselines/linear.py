"""A linear score of every candidate's columns: what search finds without a network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gpuyard.envs.observation import CANDIDATES, Layout

from .policy import Observation, Policy, ScorePolicy
from .routing.router import Router

if TYPE_CHECKING:
    from gpuyard.envs.scenario import Scenario

LOG_ODDS = ":log-odds"
"""Ends the name of a feature that is the log-odds of a column."""

CLIP = 6.0
"""Largest log-odds: a share below 0.25 % or above 99.75 % counts as that."""
SCALE = 3.0
"""What log-odds are divided by: most then lie within a few units, as the columns do."""


def features(layout: Layout) -> list[str]:
    """Return the names of all features of a candidate, such as ``"route.wait_s:log-odds"``.

    Those are the columns of the layout's decisions as they are stored, and the log-odds of each
    that is no flag. A stored value v = x / (x + scale) has log-odds log(x / scale): a sum of those
    is a product of quantities.
    """
    names: list[str] = []
    for block in layout.decisions:
        for column in CANDIDATES[block]:
            name = f"{block}.{column.name}"
            names += [name] if column.unit == "flag" else [name, name + LOG_ODDS]
    return names


def log_odds(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return log(v / (1 - v)) of values in [0, 1], clipped to 6 either way and divided by 3."""
    with np.errstate(divide="ignore"):
        odds = np.log(values) - np.log1p(-values)
    return odds.clip(-CLIP, CLIP) / SCALE


class Linear(ScorePolicy):
    """The candidate with the highest weighted sum of its features.

    Args:
        weights: by feature, see :func:`features`; those that are not named weigh nothing. As they
            are found by their names, later versions may add columns or move them.
    """

    def __init__(self, weights: Mapping[str, float]):
        self.weights = dict(weights)

    def reset(self, scenario: Scenario, num_envs: int, seed: int = 0) -> None:
        """Find the columns.

        Raises:
            ValueError: the scenario asks for other decisions, or has no such column.
        """
        super().reset(scenario, num_envs, seed)
        names = {name.removesuffix(LOG_ODDS) for name in self.weights}
        missing = sorted(names - set(self.layout.names("candidates")))
        if missing:
            raise ValueError(f"linear: weights name {', '.join(missing)}: no such candidate column")
        size = len(self.layout.columns("candidates"))
        self._plain, self._odds = np.zeros(size, np.float32), np.zeros(size, np.float32)
        for name, weight in self.weights.items():
            column = name.removesuffix(LOG_ODDS)
            to = self._odds if name != column else self._plain
            to[self.layout.index("candidates", column)] = weight

    def score(self, observation: Observation) -> NDArray[np.floating]:
        """Return the weighted sums, shape (n, C)."""
        values = observation["candidates"]
        used = np.flatnonzero(self._odds)
        return values @ self._plain + log_odds(values[..., used]) @ self._odds[used]


class LinearRouter(Linear, Router):
    """A linear score of replicas; a request is held back only if none is feasible."""


class LinearPlacer(Linear):
    """A linear score of what may be placed where; waiting is a candidate like any other."""

    decides = frozenset({"place"})


_BY_BLOCK = {"route": LinearRouter, "place": LinearPlacer}


def linear(weights: Mapping[str, float]) -> Policy:
    """Choose the candidate with the highest weighted sum of its columns, as they are stored.

    Args:
        weights: by column of the candidates, ``{"route.wait_s": -1.0}``, all ``route.*`` or all
            ``place.*``; the end ``:log-odds`` takes a column's log-odds instead. The page of each
            environment lists the columns; ``gpuyard tune linear`` finds weights.

    Returns:
        A policy for the decision that the names begin with.

    Raises:
        ValueError: no weights, weights of several decisions or unknown ones, or a weight that is
            no finite number.
    """
    blocks = {name.partition(".")[0] for name in weights}
    if len(blocks) != 1 or not blocks <= _BY_BLOCK.keys():
        known = " or all ".join(f"{block}.*" for block in _BY_BLOCK)
        raise ValueError(f"linear: weights name {sorted(blocks)}; give at least one, all {known}")
    check_weights("linear", weights)
    return _BY_BLOCK[blocks.pop()](weights)


def check_weights(owner: str, weights: Mapping[str, float]) -> None:
    """Refuse weights that are no finite numbers.

    Raises:
        ValueError: naming the owner, the weight and its value.
    """
    for name, weight in weights.items():
        if not isinstance(weight, (int, float)) or not np.isfinite(weight):
            raise ValueError(f"{owner}: weights: {name} = {weight!r} must be a finite number")
