"""What a policy that plans ahead may read of a placement world, and the plan it may submit.

All of it is what a real scheduler knows: devices, links, gangs and their estimates; never true
durations. Arrays are copies.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .engine.core.owners import DOWN, FREE
from .hardware.cluster import Cluster

__all__ = ["DOWN", "FREE", "GANG_VIEW", "QUEUE_VIEW", "ClusterView", "Plan"]


GANG_VIEW = np.dtype(
    [
        ("id", "i4"),  # names the gang in a Plan
        ("gpus", "i4"),
        ("arrival_s", "f8"),
        ("estimate_s", "f8"),  # believed run time at speed 1 without contention
        ("executed_s", "f8"),  # run time so far
        ("start_s", "f8"),  # of its present run; NaN while pending
        ("end_s", "f8"),  # believed end of its present run; NaN while pending
        ("slowdown", "f8"),  # of its present run by contention, 1 = none
        ("priority", "f8"),
        ("protected", "i4"),  # 1: never to be preempted
        ("tenant", "i4"),  # number of its queue
        ("pool", "i4"),  # the only pool it may use, -1: any
        ("required", "i4"),  # widest domain allowed, index into hardware.cluster.LEVELS
        ("preferred", "i4"),
        ("preemptions", "i4"),
        ("service", "i4"),  # whose replicas it is, -1: a job that ends by itself
        ("is_base", "i4"),  # 1: a service's base gang, or a replica of it
        ("blocked", "i4"),  # 1: must not start or stop now: it did just now, or is protected
    ]
)

QUEUE_VIEW = np.dtype(
    [
        ("parent", "i4"),  # the queue around it, -1: none
        ("deserved", "i4"),  # GPUs that it is entitled to
        ("guarantee", "i4"),  # those of them that nobody else may borrow
        ("limit", "i4"),  # most GPUs that it and all below it may hold
        ("held", "i4"),  # GPUs that it and all below it hold
        ("weight", "f8"),  # its part of what nobody claims
        ("priority", "f8"),  # higher ones divide that first
    ]
)


@dataclass(frozen=True)
class ClusterView:
    """The cluster at a decision.

    Attributes:
        now_s: time.
        cluster: nodes, domain tree, fabric (static).
        gpu_job: int32 (D,), gang that holds each GPU, FREE, or DOWN (no such GPU, or node failed).
        uplink_job: int32 (S, U), gang that reserved each uplink of a leaf switch, or FREE.
        uplink_flows: int32 (S, U), entries of running gangs on it; only unused ones can be
            reserved.
        circuits: int32 (S, U), spine at the far end of each uplink, -1: dark.
        link_load: float64 (L,), share of each directed link's capacity in use.
        pending: GANG_VIEW, in queue order (services, then by arrival; a preempted gang keeps its
            place).
        running: GANG_VIEW, in order of start; without the gangs of services, which hold their
            devices until they are told to end, unless a scenario lets one of them be preempted or
            puts it into a tenant's queue.
        speeds: float64 (len(pending), pools), relative compute rate of each pending gang on each
            pool, 0: cannot run there.
        running_speeds: float64 (len(running), pools).
        queues: QUEUE_VIEW, first the queue of every tenant by its number, then those around them.
        queue_names: of each.
        preemption: whether plans may preempt.
        refused: actions of this episode that the engine refused, plans among them.
    """

    now_s: float
    cluster: Cluster
    gpu_job: NDArray[np.int32]
    uplink_job: NDArray[np.int32]
    uplink_flows: NDArray[np.int32]
    circuits: NDArray[np.int32]
    link_load: NDArray[np.float64]
    pending: NDArray[np.void]
    running: NDArray[np.void]
    speeds: NDArray[np.float64]
    running_speeds: NDArray[np.float64]
    queues: NDArray[np.void]
    queue_names: tuple[str, ...]
    preemption: bool
    refused: int = 0

    @property
    def node_free(self) -> NDArray[np.int64]:
        """Free GPUs of every node, int64 (N,)."""
        return (self.gpu_job.reshape(self.cluster.num_nodes, -1) == FREE).sum(axis=1)


@dataclass(frozen=True)
class Plan:
    """One decision of a planner: preempt some gangs, then start one.

    Attributes:
        gang: id of a pending gang, or -1 to start none.
        gpus: int (n,), GPUs in rank order.
        uplinks: int (n,) or None; uplink of its leaf switch that each GPU sends through, -1: none
            (its flows stay under the leaf switch). Those uplinks become the gang's own.
        circuits: int (n,) or None; spine to which each of those uplinks is switched (OCS only).
        preempt: ids of running gangs to stop first.
    """

    gang: int
    gpus: NDArray[np.int64] | None = None
    uplinks: NDArray[np.int64] | None = None
    circuits: NDArray[np.int64] | None = None
    preempt: tuple[int, ...] = ()
