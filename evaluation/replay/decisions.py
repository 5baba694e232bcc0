"""Records what each decision was about and which candidate was taken."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gpuyard.envs.observation import CANDIDATES, DECISIONS, kind_column
from gpuyard.envs.scenario.services import turns

from .episode import DECISION, VERBS

if TYPE_CHECKING:
    from gpuyard.envs.scenario import Scenario
    from gpuyard.envs.scene import Scene

    from .gangs import RunRecorder

Observation = dict[str, NDArray]

PLANS = tuple(c.name for c in CANDIDATES["place"] if c.name.startswith("plan_"))
"""Columns that say by which plan a candidate starts a gang."""


@dataclass(frozen=True)
class Step:
    """A decision and what came of it.

    Attributes:
        observation: on which it was taken, without a leading axis.
        action: the candidate.
        refused: whether that was infeasible and was replaced.
        before: when it was taken.
        after: at the next decision, or at the end.
        runs: which have looked at ``after``.
    """

    observation: Observation
    action: int
    refused: bool
    before: Scene
    after: Scene
    runs: RunRecorder


Outcome = tuple[str, int, int]
"""Verb, subject and choice of a DECISION."""


class DecisionRecorder:
    """Notes decisions as they are taken.

    Args:
        scenario: the world.
    """

    def __init__(self, scenario: Scenario) -> None:
        self._layout = scenario.layout
        self._num_replicas = len(scenario.replicas)
        self._num_roles = sum(len(service.roles) for service in scenario.services)
        self._turns = turns(scenario.services)
        self._rows: list[tuple[float, int, int, int, int, int, bool]] = []

    def look(self, step: Step) -> None:
        """Note a decision."""
        outcomes = {
            **{"route": self._route, "place": self._place, "scale": self._scale},
            "migrate": self._migrate,
        }
        for kind in self._layout.decisions:
            number, column = DECISIONS.index(kind), self._layout.index("cluster", kind_column(kind))
            if step.observation["cluster"][column] > 0:
                verb, subject, choice = outcomes[kind](step)
                options = int(step.observation["action_mask"].sum())
                what = VERBS.index(verb), subject, choice, options, step.refused
                self._rows.append((step.before.now_s, number, *what))

    def all(self) -> NDArray[np.void]:
        """Return DECISION records."""
        return np.array(self._rows, DECISION)

    def _route(self, step: Step) -> Outcome:
        request = step.before.deciding
        if step.refused:
            row = step.after.requests[request - step.after.first_request]
            return "sent", request, int(row["replica"])
        if step.action == self._num_replicas:
            return "held", request, -1
        return "sent", request, step.action

    def _migrate(self, step: Step) -> Outcome:
        source = step.observation["candidates"][:, self._layout.index("candidates", "is_source")]
        if step.refused or step.action == self._num_replicas:
            return "kept", -1, -1
        if not source.any():
            return "chose", step.action, -1
        return "moved", int(source.argmax()), step.action

    def _place(self, step: Step) -> Outcome:
        runs, own = step.runs, self._flag(step, "place.is_own")
        start_s, now_s = step.after.gangs["start_s"], step.before.now_s
        placed = [gang for gang in runs.started if start_s[gang] == now_s]
        if placed:
            plans = [self._flag(step, f"place.{plan}") for plan in PLANS]
            return "started", placed[0], plans.index(True) if any(plans) else -1
        if runs.stopped and (own or self._flag(step, "place.is_preempt")):
            return "preempted", runs.stopped[0], -1
        return "waited", -1, -1

    def _scale(self, step: Step) -> Outcome:
        if step.refused or self._flag(step, "scale.is_keep"):
            return "kept", -1, -1
        if self._flag(step, "scale.is_turn"):
            giver, taker = self._turns[step.action - 1 - 2 * self._num_roles]
            return "turned", taker, giver
        verb = "added" if self._flag(step, "scale.is_add") else "took"
        return verb, (step.action - 1) // 2, -1

    def _flag(self, step: Step, name: str) -> bool:
        """Return whether a flag of the candidate taken is set."""
        rows = step.observation["candidates"]
        if not 0 <= step.action < len(rows):
            return False
        return bool(rows[step.action, self._layout.index("candidates", name)] > 0)
