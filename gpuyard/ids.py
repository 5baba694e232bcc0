"""The registered environment ids: which decisions each one is for, and its default scenario.

All ids make the same classes; a scenario's parts, not the id, say which decisions are taken. An id
names a default scenario and refuses scenarios with other decisions.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple, Protocol


class Environment(NamedTuple):
    """What an id stands for: a default scenario, and the decisions of all scenarios it takes."""

    scenario: str
    decisions: tuple[str, ...]


IDS = {
    "gpuyard/Routing-v0": Environment("routing-default", ("route",)),
    "gpuyard/Placement-v0": Environment("placement-default", ("place",)),
    "gpuyard/Cluster-v0": Environment("cluster-default", ("route", "place", "scale")),
}

OPTIONAL = frozenset({"migrate"})
"""Decisions that a scenario of any id may ask for besides."""

DEFAULT = "gpuyard/Routing-v0"
"""The id where neither an id nor a scenario is given."""


class Deciding(Protocol):
    """What is asked of a scenario here."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def decisions(self) -> frozenset[str]:
        """Kinds of decisions that its parts ask for."""


def default_scenario(env_id: str = DEFAULT) -> str:
    """Return the name of the scenario that an id is made with by default.

    Raises:
        ValueError: the id is none of :data:`IDS`, so that a scenario must be given.
    """
    if env_id not in IDS:
        raise ValueError(f"env = {env_id!r} is none of {', '.join(IDS)}: say which scenario, too")
    return IDS[env_id].scenario


def id_for(scenario: Deciding) -> str:
    """Return the id whose decisions are those of a scenario.

    Raises:
        ValueError: there is none.
    """
    env_id = _fitting(scenario)
    if env_id is None:
        asked = listed(scenario.decisions)
        raise ValueError(
            f"scenario {scenario.name!r} asks for {asked}: no registered id is for that"
        )
    return env_id


def check_decisions(scenario: Deciding, decisions: Collection[str]) -> None:
    """Refuse a scenario whose decisions are not exactly those that an id is for.

    Raises:
        ValueError: naming the scenario, its decisions, those of the id, and the id that fits.
    """
    if scenario.decisions - OPTIONAL != set(decisions):
        raise ValueError(
            f"scenario {scenario.name!r} asks for {listed(scenario.decisions)}, but this id is for "
            f"{listed(decisions)}: use {_fitting(scenario) or 'the class ClusterEnv itself'}"
        )


def _fitting(scenario: Deciding) -> str | None:
    asked = scenario.decisions - OPTIONAL
    fitting = (i for i, env in IDS.items() if asked == set(env.decisions))
    return next(fitting, None)


def listed(decisions: Collection[str]) -> str:
    """Return decisions as text: ``"place and route"``."""
    return " and ".join(sorted(decisions))
