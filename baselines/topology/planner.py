"""What all topology planners share: they walk the queue and place the first gang that fits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gpuyard.envs.cluster_view import ClusterView, Plan

from ..planner import Planner
from ..room import GPUs, Room, place
from .request import Ints, Request, lowest_gpus, make_request

if TYPE_CHECKING:
    from gpuyard.envs.scenario import Scenario

ORDERS = {"fifo": None, "strict": None, "sjf": "estimate_s", "smallest": "gpus"}


class TopologyPlanner(Planner):
    """Starts the first gang of the queue for which its rule finds nodes.

    Subclasses say where by :meth:`choose`. A gang goes to the fastest pool that has room for it.

    Args:
        order: of the queue: "fifo" (arrival; a gang that does not fit is passed over), "strict"
            (arrival; it blocks all behind it), "sjf" (shortest estimate first) or "smallest"
            (fewest GPUs first).
        pod_gpus: GPUs that must stand on one node; None: as many as a node has.

    Raises:
        ValueError: unknown order, or ``pod_gpus`` below 1.
    """

    def __init__(self, *, order: str = "fifo", pod_gpus: int | None = None) -> None:
        if order not in ORDERS:
            raise ValueError(f"order = {order!r} must be one of {', '.join(ORDERS)}")
        if pod_gpus is not None and not (isinstance(pod_gpus, int) and pod_gpus >= 1):
            raise ValueError(f"pod_gpus = {pod_gpus!r} must be a whole number, 1 or more")
        self.order, self.pod_gpus = order, pod_gpus
        self.rng = np.random.default_rng(0)

    def reset(self, scenario: Scenario, num_envs: int, seed: int = 0) -> None:
        """Seed the choice among equals."""
        super().reset(scenario, num_envs, seed)
        self.rng = np.random.default_rng(seed)

    def plan(self, view: ClusterView) -> Plan | None:
        """Return the start of the first gang that fits, or None."""
        self.begin(view)
        room, pending, tried = Room(view), view.pending, set()
        fits = pending["gpus"] <= room.node_free.sum()
        for index in self._queue(view):
            gang, speeds = pending[index], view.speeds[index]
            shape = (int(gang["gpus"]), *self.shape(gang), speeds.tobytes())
            if fits[index] and shape not in tried:
                gpus = place(room, gang, speeds, self.fit)
                if gpus is not None:
                    self.started(gang, gpus)
                    return Plan(int(gang["id"]), gpus)
                tried.add(shape)  # another gang of this shape would not fit either
            if self.order == "strict":
                break
        return None

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

    def begin(self, view: ClusterView) -> None:
        """Take from the view what the rule needs besides free GPUs."""

    def shape(self, gang: np.void) -> tuple:
        """Return what of a gang, besides its GPUs and pools, the rule looks at."""
        return int(gang["required"]), int(gang["preferred"])

    def started(self, gang: np.void, gpus: GPUs) -> None:
        """Remember that a gang starts now."""

    def _queue(self, view: ClusterView) -> Ints:
        """Return the gangs that may start at this moment, in queue order."""
        pending, column = view.pending, ORDERS[self.order]
        queue = np.argsort(pending[column], kind="stable") if column else np.arange(len(pending))
        tenant = pending["tenant"]
        within = view.tenant_gpus[tenant] + pending["gpus"] <= view.quotas[tenant]
        return queue[(within & (pending["blocked"] == 0))[queue]]
