"""Gavel: max-min fair shares of time on GPUs of several types, realised in rounds."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gpuyard.envs.cluster_view import DOWN, ClusterView, Plan

from ..room import gang_gpus, pool_of
from ..routing.router import check_at_least
from .remembering import Remembering
from .shares import max_min_shares
from .starting import next_start

Shares = NDArray[np.float64]


@dataclass
class Round:
    """What Gavel remembers of a world.

    Attributes:
        begun_s: when the round began.
        reset_s: when the received time was last forgotten.
        shares: by gang, of each pool's time.
        received_s: by gang, run time on each pool since the reset.
        seen: by gang, its run time and its pool when last looked at.
    """

    begun_s: float = -np.inf
    reset_s: float = -np.inf
    shares: dict[int, Shares] = field(default_factory=dict)
    received_s: dict[int, Shares] = field(default_factory=dict)
    seen: dict[int, tuple[float, int]] = field(default_factory=dict)


class Gavel(Remembering[Round]):
    """Heterogeneity-aware least attained service, as a linear programme over time shares.

    Source: D. Narayanan et al., "Heterogeneity-aware cluster scheduling policies for deep learning
    workloads", OSDI 2020. :func:`~.shares.max_min_shares` gives each gang a share of time on each
    type of GPU. Rounds realise them: a gang's priority on a type is its share over the part of
    that type's time that it received; the highest run. Shares are recomputed when the set of gangs
    has changed; received time is forgotten then, unless that happened less than ``reset_s`` ago.
    Inside a round nobody is stopped, and free GPUs go by the same priorities.

    Rounds begin at the first event after their time, not by a timer of their own.

    Args:
        round_s: length of a round; the authors' default.
        reset_s: as in the authors' scheduler.
        heterogeneous: False: all types count as equally fast (the agnostic version).
    """

    needs = "scipy"

    def __init__(
        self, *, round_s: float = 360.0, reset_s: float = 1920.0, heterogeneous: bool = True
    ):
        self.round_s = check_at_least("gavel", "round_s", round_s, 0.0)
        self.reset_s = check_at_least("gavel", "reset_s", reset_s, 0.0)
        self.heterogeneous = heterogeneous

    def fresh(self) -> Round:
        """Return a memory in which no round has begun."""
        return Round()

    def plan_for(self, index: int, view: ClusterView) -> Plan | None:
        """Start the pending gang of the highest priority that fits or may displace others."""
        memory = self.memories[index]
        pools = [pool_of(view, gang_gpus(view, gang)) for gang in view.running["id"]]
        _receive(memory, view, pools)
        if view.now_s >= memory.begun_s + self.round_s:
            memory.begun_s = view.now_s
        gangs = {int(gang) for gang in (*view.pending["id"], *view.running["id"])}
        if gangs != memory.shares.keys():
            self._share_out(memory, view)
        waiting = _priorities(memory, view.pending, len(view.cluster.pools))
        running = _priorities(memory, view.running, len(view.cluster.pools))
        running_keys = -running[np.arange(len(pools)), np.array(pools, int)]
        return next_start(
            view,
            self.placement,
            -waiting.max(axis=1),
            running_keys if view.now_s == memory.begun_s else None,
            # a gang may use every pool that it can run on, those of its share first
            preferences=np.where(view.speeds > 0, 1e-9 * view.speeds + waiting, 0.0),
        )

    def _share_out(self, memory: Round, view: ClusterView) -> None:
        slots = view.gpu_job.reshape(view.cluster.num_nodes, -1)
        capacity = np.bincount(
            view.cluster.node_pool, (slots != DOWN).sum(axis=1), len(view.cluster.pools)
        )
        speeds = np.concatenate([view.speeds, view.running_speeds])
        gangs = np.concatenate([view.pending, view.running])
        shares = max_min_shares(
            speeds if self.heterogeneous else np.sign(speeds),
            gangs["gpus"].astype(float),
            capacity.astype(float),
        )
        memory.shares = {int(gang): share for gang, share in zip(gangs["id"], shares, strict=True)}
        if view.now_s >= memory.reset_s + self.reset_s:
            memory.reset_s = view.now_s
            memory.received_s.clear()


def _receive(memory: Round, view: ClusterView, pools: list[int]) -> None:
    """Add the run time since the last look to each gang's account of the pool it ran on."""
    where = [-1] * len(view.pending) + pools
    seen = {}
    for gang, pool in zip((*view.pending, *view.running), where, strict=True):
        name, executed_s = int(gang["id"]), float(gang["executed_s"])
        executed_then, pool_then = memory.seen.get(name, (0.0, pool))
        ran_on = pool if pool >= 0 else pool_then
        account = memory.received_s.setdefault(name, np.zeros(len(view.cluster.pools)))
        account[ran_on] += executed_s - executed_then
        seen[name] = (executed_s, ran_on)
    memory.seen = seen


def _priorities(memory: Round, gangs: NDArray[np.void], pools: int) -> Shares:
    """Return share over part of the received time, (gangs, pools); huge if none was received."""
    total = sum(memory.received_s.values(), np.zeros(pools))
    none = np.zeros(pools)
    rows = []
    for gang in gangs["id"]:
        part = memory.received_s.get(int(gang), none) / np.maximum(total, 1e-9)
        rows.append(memory.shares[int(gang)] / np.maximum(part, 1e-9))
    return np.array(rows).reshape(len(gangs), pools)
