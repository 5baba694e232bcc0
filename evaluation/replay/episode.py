"""A recorded episode: who was where, from when to when; plain arrays, times in seconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..metrics import Table

if TYPE_CHECKING:
    from gpuyard.envs.scenario import Scenario

ENDS = ("open", "finished", "preempted", "failed", "retired")
"""How a run ends: not before the episode, its work done, preempted, its node failed, or its devices
were taken away: the replica is not needed, or another gang goes on with them."""

VERBS = (
    *("sent", "held", "started", "preempted", "waited", "added", "took", "turned", "kept"),
    *("chose", "moved"),
)
"""What a decision did: with a request, with gangs, with replicas, with running requests."""

STAY = np.dtype(  # of a request in one phase
    [
        ("request", "i4"),
        ("phase", "i4"),  # index into envs.scene.REQUEST_PHASES
        ("replica", "i4"),  # where, -1: at the router
        ("begin_s", "f8"),
        ("end_s", "f8"),
    ]
)

PHASE = np.dtype(  # of a replica
    [("replica", "i4"), ("phase", "i4"), ("begin_s", "f8"), ("end_s", "f8")]
)

OUTAGE = np.dtype([("node", "i4"), ("begin_s", "f8"), ("end_s", "f8")])

DECISION = np.dtype(
    [
        ("time_s", "f8"),
        ("kind", "i4"),  # index into envs.observation.DECISIONS
        ("verb", "i4"),  # index into VERBS
        ("subject", "i4"),  # request, gang, or role; -1: none
        ("choice", "i4"),  # replica, plan (-1: the policy's own), role that one leaves; else -1
        ("options", "i4"),  # feasible candidates
        ("refused", "i4"),  # 1: the policy's candidate was infeasible and was replaced
    ]
)


@dataclass(frozen=True)
class Run:
    """A gang on its devices, from a start to the next stop.

    Attributes:
        gang: number among all gangs, those of services first.
        start_s, end_s: from when to when.
        ended: index into :data:`ENDS`.
        devices: GPUs in rank order; empty if they are not known.
    """

    gang: int
    start_s: float
    end_s: float
    ended: int
    devices: NDArray[np.int32]


@dataclass(frozen=True)
class Samples:
    """What changes too often to be kept in full, in percent.

    Attributes:
        times_s: float64 (K,), rising.
        link_load: uint8 (K, L), of the cluster's links.
        kv: uint8 (K, R), KV blocks held by each replica.
    """

    times_s: NDArray[np.float64]
    link_load: NDArray[np.uint8]
    kv: NDArray[np.uint8]


@dataclass(frozen=True)
class Episode:
    """One episode of one policy.

    Attributes:
        scenario: the world.
        policy: its name.
        seed: of the episode.
        end_s: when it ended.
        truncated: whether that was before all work was done.
        tables: of jobs and requests, as :meth:`ClusterEnv.results` returns them.
        gangs: GANG_SCENE at the end, those of services first.
        runs: in order of their start.
        phases: PHASE of every replica in order, without the time when it is off.
        stays: STAY, by request and time; they fill each request's life without gaps.
        outages: OUTAGE of nodes.
        decisions: DECISION, as they were taken.
        samples: at most some hundred.
    """

    scenario: Scenario
    policy: str
    seed: int
    end_s: float
    truncated: bool
    tables: dict[str, Table]
    gangs: NDArray[np.void]
    runs: tuple[Run, ...]
    phases: NDArray[np.void]
    stays: NDArray[np.void]
    outages: NDArray[np.void]
    decisions: NDArray[np.void]
    samples: Samples
