"""Themis: finish-time fairness."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpuyard.envs.cluster_view import ClusterView, Plan

from ..room import gang_gpus, pool_of
from ..routing.router import check_at_least
from .scheduler import Scheduler
from .starting import next_start, remaining_s


class Themis(Scheduler):
    """The gangs whose finish is delayed most, against an equal share of the cluster, go first.

    Source: K. Mahajan et al., "Themis: fair and efficient GPU cluster scheduling", NSDI 2020.
    Finish-time fairness rho is the time from arrival to the expected end over the time that the
    gang would take on 1/N of the cluster, N gangs contending; 1 or less is the sharing incentive.
    Instead of its auction, gangs are placed by falling rho. When a gang's lease has run out, it
    may be stopped for one of the worst ``1 - fairness`` share of all gangs that has a higher rho;
    the others take what is free.

    A gang of g GPUs on 1/N of D GPUs is taken to need g N / D of its time, at least all of it.
    rho of a waiting gang supposes that it starts now on its fastest pool.

    Args:
        fairness: f, between 0 (everybody may bid) and 1 (only the worst).
        lease_s: for so long a gang is safe.
    """

    def __init__(self, *, fairness: float = 0.8, lease_s: float = 1200.0):
        if not 0 <= fairness <= 1:
            raise ValueError(f"themis: fairness = {fairness!r} must lie in [0, 1]")
        self.fairness = fairness
        self.lease_s = check_at_least("themis", "lease_s", lease_s, 0.0)

    def plan(self, view: ClusterView) -> Plan | None:
        """Start the gang of the highest rho that fits or may displace a lower one."""
        waiting, active = finish_time_fairness(view)
        bidders = max(1, round((1 - self.fairness) * (len(waiting) + len(active))))
        worst = np.sort(np.concatenate([waiting, active]))[::-1][:bidders]
        leased = view.now_s - view.running["start_s"] < self.lease_s
        return next_start(
            view,
            self.placement,
            -waiting,
            np.where(leased, -np.inf, -active),
            claims=np.where(waiting >= worst.min(initial=np.inf), -waiting, np.inf),
        )


def finish_time_fairness(
    view: ClusterView,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return rho of the pending and of the running gangs."""
    usable = int((view.gpu_job != -2).sum())
    contending = len(view.pending) + len(view.running)

    def rho(gangs: NDArray[np.void], rate: NDArray[np.float64]) -> NDArray[np.float64]:
        shared_s = view.now_s - gangs["arrival_s"] + remaining_s(gangs) / rate
        alone_s = gangs["estimate_s"] * np.maximum(1.0, gangs["gpus"] * contending / usable)
        return shared_s / np.maximum(alone_s, 1e-9)

    pools = [pool_of(view, gang_gpus(view, gang)) for gang in view.running["id"]]
    running_rate = view.running_speeds[np.arange(len(pools)), np.array(pools, int)]
    return (
        rho(view.pending, view.speeds.max(axis=1, initial=1e-9)),
        rho(view.running, running_rate / np.maximum(view.running["slowdown"], 1.0)),
    )
