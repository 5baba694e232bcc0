"""What isolation planners share: the order of the queue, and no attempt that must fail again."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gpuyard.envs.cluster_view import ClusterView, Plan

from ..gang import make_order
from ..placement import Placement
from ..planner import Planner
from ..room import GPUs, Room

if TYPE_CHECKING:
    from gpuyard.envs.scenario import Scenario

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

    def look(self, room: Room) -> None:
        """Forget failures if a GPU or an uplink is free that was not."""
        free = unused(room)
        if len(free) != len(self.free) or (free & ~self.free).any():
            self.failed.clear()
        self.free = free


def unused(room: Room) -> NDArray[np.bool_]:
    """Return which GPUs and then which uplinks are free, bool."""
    return np.concatenate([room.free.ravel(), room.uplinks.unused.ravel()])


class QueuePlanner(Planner, Placement):
    """Starts gangs in the order of a queue where :meth:`start` finds room.

    Args:
        order: who comes next: the name of a queue order of ``gang/``. "fifo": a head that does not
            fit blocks all behind it, as in the vClos study; "fifo-first-fit": it is passed over.
            Gangs beyond their tenant's quota never block.

    Raises:
        ValueError: unknown order.
    """

    def __init__(self, *, order: str = "fifo") -> None:
        self.scheduler = make_order(order)
        self.scheduler.placement = self
        self._memory: dict[int, Memory] = {}
        self._found: dict[bytes, Plan] = {}

    def reset(self, scenario: Scenario, num_envs: int, seed: int = 0) -> None:
        """Forget everything."""
        super().reset(scenario, num_envs, seed)
        self.scheduler.reset(scenario, num_envs, seed)
        self._memory = {}

    def restart(self, done: NDArray[np.bool_]) -> None:
        """Forget the worlds that begin anew."""
        self.scheduler.restart(done)
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
        self.now = self._memory.setdefault(index, Memory())
        self.now.look(Room(view))
        self._found.clear()
        return self.scheduler.plan_for(index, view)

    def place(self, room: Room, gang: np.void, speeds: NDArray[np.float64]) -> GPUs | None:
        """Return the GPUs of a gang, or None; what fails in the world as it is is not repeated."""
        shape = (int(gang["gpus"]), int(gang["required"]), speeds.tobytes())
        is_real = np.array_equal(unused(room), self.now.free)
        known = self.now.failed.get(shape) if is_real else None
        plan = self.start(room, gang, speeds) if known is None else known
        if isinstance(plan, Plan) and plan.gpus is not None:
            self._found[plan.gpus.tobytes()] = plan
            return plan.gpus
        if is_real:
            self.now.failed[shape] = self.now.reasons[int(gang["id"])] = str(plan)
        return None

    def commit(self, room: Room, gang: np.void, gpus: GPUs, stop: tuple[int, ...] = ()) -> Plan:
        """Return the plan whose GPUs :meth:`place` gave, with its links."""
        return replace(self._found[gpus.tobytes()], gang=int(gang["id"]), preempt=stop)

    def start(self, room: Room, gang: np.void, speeds: NDArray[np.float64]) -> Plan | str:
        """Return the start of a gang, or the reason why it must wait."""
        raise NotImplementedError
