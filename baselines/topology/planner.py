"""What all topology planners share: a queue order, and a placement of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gpuyard.envs.cluster_view import ClusterView, Plan

from ..gang import make_order
from ..placement import Placement
from ..planner import Planner
from ..room import GPUs, Room
from .request import Ints, Request, lowest_gpus, make_request

if TYPE_CHECKING:
    from gpuyard.envs.scenario import Scenario


class TopologyPlanner(Planner, Placement):
    """Starts gangs in the order of a queue where its own rule finds nodes.

    Subclasses say where by :meth:`choose`. A gang goes to the fastest pool that has room for it.

    Args:
        order: who comes next: the name of a queue order of ``gang/``, for example
            "fifo-first-fit" (arrival; a gang that does not fit is passed over), "fifo" (arrival; it
            blocks all behind it), "sjf", "srsf" or "easy-backfill". Those that stop running gangs
            do so where the scenario allows it.
        pod_gpus: GPUs that must stand on one node; None: as many as a node has.

    Raises:
        ValueError: unknown order, or ``pod_gpus`` below 1.
    """

    def __init__(self, *, order: str = "fifo-first-fit", pod_gpus: int | None = None) -> None:
        if pod_gpus is not None and not (isinstance(pod_gpus, int) and pod_gpus >= 1):
            raise ValueError(f"pod_gpus = {pod_gpus!r} must be a whole number, 1 or more")
        self.scheduler, self.pod_gpus = make_order(order), pod_gpus
        self.scheduler.placement = self
        self.rng = np.random.default_rng(0)

    def reset(self, scenario: Scenario, num_envs: int, seed: int = 0) -> None:
        """Seed the choice among equals, and forget the queue."""
        super().reset(scenario, num_envs, seed)
        self.scheduler.reset(scenario, num_envs, seed)
        self.rng = np.random.default_rng(seed)

    def restart(self, done: NDArray[np.bool_]) -> None:
        """Forget the queues of worlds that begin anew."""
        self.scheduler.restart(done)

    def plan(self, view: ClusterView) -> Plan | None:
        """Return the next start in a single world, or None."""
        return self.plan_for(0, view)

    def plan_for(self, index: int, view: ClusterView) -> Plan | None:
        """Return the next start in world ``index``, or None to wait."""
        self.begin(view)
        plan = self.scheduler.plan_for(index, view)
        if plan is not None and plan.gpus is not None:
            gang = view.pending[view.pending["id"] == plan.gang][0]
            self.started(gang, plan.gpus)
        return plan

    def fit(self, room: Room, gang: np.void, pool: int) -> GPUs | None:
        """Return the gang's GPUs in one pool in rank order, or None; a ``room.Fit``."""
        request = make_request(room, gang, pool, self.pod_gpus)
        if request.slots.sum() < request.pods:
            return None
        nodes = self.choose(request)
        return None if nodes is None else lowest_gpus(room, nodes, request.sizes)

    def choose(self, request: Request) -> Ints | None:
        """Return the node of every pod, int64 (m,), all in one required domain; None: wait."""
        raise NotImplementedError

    def shape(self, gang: np.void) -> tuple:
        """Return what of a gang, besides its GPUs and pools, the rule looks at."""
        return int(gang["required"]), int(gang["preferred"])
