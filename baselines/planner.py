"""Policies that read the whole cluster and submit plans of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .policy import Observation, Policy

if TYPE_CHECKING:
    from gpuyard.envs.cluster_view import ClusterView, Plan


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

    _env: PlacementEnv | None = None

    def connect(self, env: Any) -> None:
        """Use the worlds of ``env``, a vector environment; call it before the first ``act``."""
        self._env = getattr(env, "unwrapped", env)
        self._env.ask_planner()

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
            RuntimeError: :meth:`connect` was not called.
        """
        if self._env is None:
            raise RuntimeError(f"{type(self).__name__} plans ahead: call connect(env) before act")
        mask = observation["action_mask"]
        own = mask.shape[1] - 1
        actions = np.where(mask[:, own - 1], own - 1, mask.argmax(axis=1)).astype(np.int64)
        for index in range(len(mask)):
            view = self._env.view(index)
            plan = self.plan_for(index, view) if len(view.pending) else None
            if plan is not None:
                self._env.propose(index, plan)
                actions[index] = own
        return actions
