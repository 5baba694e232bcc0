"""Policies that read the whole cluster and submit plans of their own.

A plan is no candidate. Its lesson to a learner is the gang that it starts: the candidates for that
gang on as many nodes and leafs, or if there is none, all of them, share the credit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .policy import Observation, Policy

if TYPE_CHECKING:
    from gpuyard.envs.cluster_view import ClusterView, Plan
    from gpuyard.envs.observation import Layout


class PlacementEnv(Protocol):
    """What a planner needs of a placement environment with several worlds."""

    def view(self, index: int) -> ClusterView:
        """Return the cluster of one world as it stands."""

    def propose(self, index: int, plan: Plan) -> None:
        """Hand over the plan that the last candidate stands for in the next step."""

    def ask_planner(self) -> None:
        """Stop for a decision whenever a gang is pending, even if no candidate is feasible."""


class Planner(Policy):
    """A policy that plans on a :class:`~gpuyard.envs.cluster_view.ClusterView`.

    Subclasses implement :meth:`plan`; it is asked anew after every event and every start, and
    decides one gang at a time.
    """

    decides = frozenset({"place"})

    _env: PlacementEnv | None = None

    def attach(self, env: Any) -> None:
        """Use the worlds of ``env``, a vector environment; call it before the first ``act``."""
        self._env = getattr(env, "unwrapped", env)
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

        Waiting is the last row but one; where it is masked the first feasible row replaces it.

        Raises:
            RuntimeError: :meth:`attach` was not called.
        """
        if self._env is None:
            raise RuntimeError(f"{type(self).__name__} plans ahead: call attach(env) before act")
        mask = observation["action_mask"]
        own = mask.shape[1] - 1
        actions = np.where(mask[:, own - 1], own - 1, mask.argmax(axis=1)).astype(np.int64)
        for index in np.flatnonzero(self.asked(observation)).tolist():
            view = self._env.view(index)
            plan = self.plan_for(index, view) if len(view.pending) else None
            if plan is not None:
                self._env.propose(index, plan)
                actions[index] = own
        return actions

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
