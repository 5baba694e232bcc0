"""What isolation planners share: the order of the queue, and no attempt that must fail again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gpuyard.envs.cluster_view import FREE, ClusterView, Plan

from ..planner import Planner
from ..room import startable

if TYPE_CHECKING:
    from gpuyard.envs.scenario import Scenario

ORDERS = ("fifo", "first-fit")
GPUS, NETWORK = "gpus", "network fragmentation"  # reasons to wait


@dataclass
class Memory:
    """What a planner remembers of one world.

    Attributes:
        free: bool, GPUs and uplinks that were free at the last look.
        failed: shapes of gangs that did not fit since something was last freed, and why.
        reasons: gangs that were refused, and the last reason.
    """

    free: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))
    failed: dict[tuple, str] = field(default_factory=dict)
    reasons: dict[int, str] = field(default_factory=dict)

    def look(self, view: ClusterView) -> None:
        """Forget failures if a GPU or an uplink is free that was not."""
        free = np.concatenate([view.gpu_job == FREE, free_uplinks(view).ravel()])
        if len(free) != len(self.free) or (free & ~self.free).any():
            self.failed.clear()
        self.free = free


def free_uplinks(view: ClusterView) -> NDArray[np.bool_]:
    """Return the uplinks that nobody reserved or sends over, bool (S, U)."""
    return (view.uplink_job == FREE) & (view.uplink_flows == 0)


class QueuePlanner(Planner):
    """Starts gangs in order of arrival where :meth:`start` finds room.

    Args:
        order: "fifo": a head that does not fit blocks all behind it, as in the vClos study;
            "first-fit": it is passed over. Gangs beyond their tenant's quota never block.

    Raises:
        ValueError: unknown order.
    """

    def __init__(self, *, order: str = "fifo") -> None:
        if order not in ORDERS:
            raise ValueError(f"order = {order!r}: use one of {', '.join(ORDERS)}")
        self.order = order
        self._memory: dict[int, Memory] = {}

    def reset(self, scenario: Scenario, num_envs: int, seed: int = 0) -> None:
        """Forget everything."""
        super().reset(scenario, num_envs, seed)
        self._memory = {}

    def restart(self, done: NDArray[np.bool_]) -> None:
        """Forget the worlds that begin anew."""
        for index in np.flatnonzero(done):
            self._memory.pop(int(index), None)

    def reasons(self, index: int = 0) -> dict[int, str]:
        """Return the gangs of a world that were ever refused, with the last reason.

        Gangs that were never asked for, because not even their GPUs were free, are not in it.
        """
        return self._memory[index].reasons if index in self._memory else {}

    def plan(self, view: ClusterView) -> Plan | None:
        """Return the next start in a single world, or None."""
        return self.plan_for(0, view)

    def plan_for(self, index: int, view: ClusterView) -> Plan | None:
        """Return the next start in world ``index``, or None to wait."""
        memory = self._memory.setdefault(index, Memory())
        memory.look(view)
        for gang, speeds in zip(view.pending, view.speeds, strict=True):
            if not startable(view, gang):
                continue
            shape = (int(gang["gpus"]), int(gang["required"]), speeds.tobytes())
            if shape not in memory.failed:
                plan = self.start(view, gang, speeds)
                if isinstance(plan, Plan):
                    return plan
                memory.failed[shape] = plan
            memory.reasons[int(gang["id"])] = memory.failed[shape]
            if self.order == "fifo":
                return None
        return None

    def start(self, view: ClusterView, gang: np.void, speeds: NDArray[np.float64]) -> Plan | str:
        """Return the start of a gang, or the reason why it must wait."""
        raise NotImplementedError
