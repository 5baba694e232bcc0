"""Policies that read the whole cluster and submit plans of their own.

A plan is no candidate. Its lesson to a learner is the gang that it starts: the candidates for that
gang on as many nodes and leafs, or if there is none, all of them, share the credit.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from .policy import Observation, Policy

if TYPE_CHECKING:
    from gpuyard.envs.cluster_view import ClusterView, Plan
    from gpuyard.envs.observation import Layout
    from gpuyard.envs.scenario import Scenario


class PlacementEnv(Protocol):
    """What a planner needs of a placement environment with several worlds."""

    def view(self, index: int) -> ClusterView:
        """Return the cluster of one world as it stands."""

    def propose(self, index: int, plan: Plan) -> int:
        """Hand over a plan, and return the action that carries it out in the next step."""

    def ask_planner(self) -> None:
        """Stop for a decision whenever a gang is pending, even if no candidate is feasible."""


@dataclass(frozen=True)
class _Single:
    """A single environment as a batch of one."""

    env: Any

    def view(self, index: int) -> ClusterView:
        return self.env.view()

    def propose(self, index: int, plan: Plan) -> int:
        return int(self.env.propose(plan))

    def ask_planner(self) -> None:
        self.env.ask_planner()


@dataclass(frozen=True)
class Proposal:
    """A plan, and how many actions the engine had refused when it was made."""

    plan: Plan
    refused: int

    def same(self, plan: Plan) -> bool:
        """Return whether a plan is this one again."""
        mine, its = self.plan, plan
        return (mine.gang, mine.preempt) == (its.gang, its.preempt) and all(
            np.array_equal(a, b) if a is not None and b is not None else a is b
            for a, b in (
                (mine.gpus, its.gpus),
                (mine.uplinks, its.uplinks),
                (mine.circuits, its.circuits),
            )
        )


class Planner(Policy):
    """A policy that plans on a :class:`~gpuyard.envs.cluster_view.ClusterView`.

    Subclasses implement :meth:`plan`; it is asked anew after every event and every start, and
    decides one gang at a time.

    A plan that the engine refuses costs a wait. It is counted, warned of once, and not sent again
    while it stays the same: the next gang has its turn.

    Attributes:
        strict: a refused plan is an error (so in the tests of this project).
        refused: plans that the engine refused since the last reset.
    """

    decides = frozenset({"place"})
    strict = False
    refused = 0

    _env: PlacementEnv | None = None
    _sent: dict[int, Proposal]
    _vain: dict[int, Proposal]

    def reset(self, scenario: Scenario, num_envs: int, seed: int = 0) -> None:
        """Forget what was sent and refused."""
        super().reset(scenario, num_envs, seed)
        self.refused, self._sent, self._vain = 0, {}, {}

    def attach(self, env: Any) -> None:
        """Use the worlds of ``env``, single or vector; call it before the first ``act``."""
        world = getattr(env, "unwrapped", env)
        self._env = _Single(world) if isinstance(world, gym.Env) else world
        self._env.ask_planner()

    connect = attach

    def plan(self, view: ClusterView) -> Plan | None:
        """Return the next decision, or None to wait for the next event."""
        raise NotImplementedError

    def plan_for(self, index: int, view: ClusterView) -> Plan | None:
        """Return the plan of world ``index``; for planners that remember something of each."""
        return self.plan(view)

    def act(self, observation: Observation) -> NDArray[np.int64]:
        """Propose a plan in every world, and return the row that stands for it, shape (n,).

        Without a plan it waits; where that is masked the first feasible row replaces it.

        Raises:
            RuntimeError: :meth:`attach` was not called.
        """
        if self._env is None:
            raise RuntimeError(f"{type(self).__name__} plans ahead: call attach(env) before act")
        feasible = observation["action_mask"] > 0
        waits = feasible & (self.layout.read(observation, "candidates", "place.is_wait") > 0)
        actions = np.where(waits.any(axis=1), waits.argmax(axis=1), feasible.argmax(axis=1))
        for index in np.flatnonzero(self.asked(observation)).tolist():
            view = self._env.view(index)
            self._hear(index, view)
            plan = self._next(index, view)
            if plan is not None:
                actions[index] = self._env.propose(index, plan)
                self._sent[index] = Proposal(plan, view.refused)
        return actions

    def _hear(self, index: int, view: ClusterView) -> None:
        """Take note of whether the last plan for a world was refused."""
        sent = self._sent.pop(index, None)
        if sent is None or view.refused <= sent.refused:
            return
        said = f"{type(self).__name__}: the engine refused {sent.plan} at {view.now_s} s"
        if self.strict:
            raise RuntimeError(said)
        if not self.refused:
            warnings.warn(f"{said}; such plans count as waiting", RuntimeWarning, stacklevel=3)
        self.refused += 1
        self._vain[index] = sent

    def _next(self, index: int, view: ClusterView) -> Plan | None:
        """Return the plan for a world; one that was refused gives the next gang its turn."""
        plan = self.plan_for(index, view) if len(view.pending) else None
        vain = self._vain.get(index)
        if plan is None or vain is None or not vain.same(plan):
            return plan
        if view.refused <= vain.refused:  # that was in another episode
            return plan
        pending = view.pending.copy()
        pending["blocked"][pending["id"] == plan.gang] = 1
        plan = self.plan_for(index, replace(view, pending=pending))
        return None if plan is None or vain.same(plan) else plan

    def lessons(self, observation: Observation, env: Any) -> NDArray[np.bool_]:
        """Return the candidates that come closest to the plan for each world, bool (n, C).

        They are those of the worlds of ``env``; nothing is proposed there.
        """
        wanted = np.zeros(observation["action_mask"].shape, np.bool_)
        for index in np.flatnonzero(self.asked(observation)).tolist():
            view = env.unwrapped.view(index)
            world = {key: observation[key][index] for key in ("candidates", "action_mask")}
            wanted[index] = rows_like(self.plan_for(index, view), view, world, self.layout)
        return wanted


def rows_like(
    plan: Plan | None, view: ClusterView, observation: Observation, layout: Layout
) -> NDArray[np.bool_]:
    """Return the feasible candidates that come closest to a plan, bool (C,).

    Args:
        plan: what a planner would do; None: wait.
        view: the cluster that it planned on.
        observation: of this one environment.
        layout: of the observation.
    """
    feasible = observation["action_mask"] > 0

    def column(name: str) -> NDArray[np.float64]:
        return np.rint(layout.read(observation, "candidates", f"place.{name}"))

    if plan is None:
        return feasible & (column("is_wait") > 0)
    if plan.preempt or plan.gpus is None:
        return np.zeros_like(feasible)
    place = int(np.flatnonzero(view.pending["id"] == plan.gang)[0])
    rows = feasible & (column("is_place") > 0) & (column("position") == place)
    nodes = np.unique(np.asarray(plan.gpus) // view.cluster.gpus_per_node)
    leafs = np.unique(view.cluster.node_leaf[nodes])
    close = rows & (column("nodes") == len(nodes)) & (column("leafs") == len(leafs))
    return close if close.any() else rows
