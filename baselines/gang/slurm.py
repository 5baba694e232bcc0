"""Slurm: multifactor priority, fair share of accounts, QOS that preempt, and backfill."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gpuyard.envs.cluster_view import ClusterView, Plan

from ..room import Room, startable
from ..routing.router import check_at_least
from ..slurm import fairshare as shares
from ..slurm.priority import Factors, Weights, age, job_size, multifactor, normalised
from ..slurm.qos import Limits, Preemption, limits_by_qos, preempt_lists, qos_of
from ..slurm.requeue import Requeue
from ..slurm.usage import Usage
from .conservative import ConservativeBackfill
from .remembering import Remembering

DAY_S = 86_400.0


class SlurmMultifactor(Remembering[Usage]):
    """The job of the highest multifactor priority comes first; others are backfilled.

    Source: Slurm's ``priority_multifactor``, ``fair_tree``, ``classic_fair_share``, ``qos`` and
    ``preempt`` documentation. A tenant is a user, queues around it are accounts, ``weight`` their
    shares; a gang's priority is that of its QOS, and its pool its partition. Usage is GPU seconds
    with a half-life. Jobs that can preempt are looked at first. Of equal priority the oldest comes
    first. Jobs beyond a limit wait and hold nobody up.

    Where the scenario allows preemption, jobs of a QOS are requeued for those of a higher one:
    lowest QOS first, then the smallest.

    The default weights are those of the documentation's configuration example; that of the QOS,
    which it sets to 0, is ours.

    Args:
        age, fairshare, job_size, partition, qos: ``PriorityWeight*``.
        max_age_s: ``PriorityMaxAge``, by default the documented 7 days.
        favor_small: ``PriorityFavorSmall``.
        partitions: priority of each pool; by default all alike.
        tree: "fair-tree", or "classic" (``NO_FAIR_TREE``).
        half_life_s: ``PriorityDecayHalfLife``, by default the documented 7 days; 0: no decay.
        damping: ``FairShareDampeningFactor`` of the classic factor.
        preempt: pairs "1:0": QOS of priority 1 preempts that of 0; by default every lower one.
        exempt_s: ``PreemptExemptTime``.
        youngest_first: ``preempt_youngest_first``.
        strict_order: ``preempt_strict_order``.
        group_gpus: GPUs of all jobs of a QOS, by its priority (``GrpTRES``).
        user_gpus: GPUs of one tenant's jobs of a QOS, by its priority (``MaxTRESPerUser``).
        backfill: "conservative": a job starts if it delays no planned start of one before it;
            "none": the first that does not fit blocks all behind it; "first-fit": it is passed.

    Raises:
        ValueError: an option out of range, naming it and what is allowed.
    """

    def __init__(
        self,
        *,
        age: float = 1000.0,
        fairshare: float = 10_000.0,
        job_size: float = 1000.0,
        partition: float = 1000.0,
        qos: float = 10_000.0,
        max_age_s: float = 7 * DAY_S,
        favor_small: bool = False,
        partitions: Sequence[float] = (),
        tree: Literal["fair-tree", "classic"] = "fair-tree",
        half_life_s: float = 7 * DAY_S,
        damping: float = 1.0,
        preempt: Sequence[str] = (),
        exempt_s: float = 0.0,
        youngest_first: bool = False,
        strict_order: bool = False,
        group_gpus: Mapping[str, float] | None = None,
        user_gpus: Mapping[str, float] | None = None,
        backfill: Literal["conservative", "none", "first-fit"] = "conservative",
    ) -> None:
        self.weights = Weights(age, fairshare, job_size, partition, qos)
        for name in ("age", "fairshare", "job_size", "partition", "qos"):
            check_at_least("slurm-multifactor", name, getattr(self.weights, name), 0.0)
        self.max_age_s = check_at_least("slurm-multifactor", "max_age_s", max_age_s, 1.0)
        self.half_life_s = check_at_least("slurm-multifactor", "half_life_s", half_life_s, 0.0)
        self.damping = check_at_least("slurm-multifactor", "damping", damping, 1.0)
        exempt_s = check_at_least("slurm-multifactor", "exempt_s", exempt_s, 0.0)
        self.preemption = Preemption(preempt_lists(preempt), exempt_s)
        self.limits = Limits(
            limits_by_qos("group_gpus", group_gpus or {}),
            limits_by_qos("user_gpus", user_gpus or {}),
        )
        self.favor_small, self.partitions = favor_small, tuple(partitions)
        self.classic, self.backfill = tree == "classic", backfill
        self.youngest_first, self.strict_order = youngest_first, strict_order

    def fresh(self) -> Usage:
        """Return no usage."""
        return Usage()

    def plan_for(self, index: int, view: ClusterView) -> Plan | None:
        """Start the first job that fits, may preempt or may be backfilled."""
        usage = self.memories[index]
        usage.update(view, self.half_life_s)
        pending = view.pending
        may_stop = {qos: self._stoppable(view, qos) for qos in set(pending["priority"].tolist())}
        rows = [row for row, gang in enumerate(pending) if self._may_start(view, gang)]
        priority = self.priorities(view, usage.gpu_s)
        rows.sort(key=lambda row: (not may_stop[pending["priority"][row]], -priority[row], row))
        room = Room(view)
        for row in rows:
            gang, speeds = pending[row], view.speeds[row]
            gpus = self.placement.place(room, gang, speeds)
            if gpus is not None:
                return self.placement.commit(room, gang, gpus)
            requeue = Requeue(view, room, self.placement, gang, speeds)
            plan = requeue.plan(may_stop[gang["priority"]], self.strict_order)
            if plan is not None:
                return plan
            if self.backfill != "first-fit":
                break
        if self.backfill != "conservative" or not rows:
            return None
        backfill = ConservativeBackfill()
        backfill.placement = self.placement
        return backfill.plan(replace(view, pending=pending[rows], speeds=view.speeds[rows]))

    def priorities(
        self, view: ClusterView, usage_gpu_s: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return the priority of every pending gang.

        Raises:
            ValueError: ``partitions`` are not as many as the pools.
        """
        pending = view.pending
        waited_s = view.now_s - pending["arrival_s"] - pending["executed_s"]
        pools = np.zeros(len(view.cluster.pools) + 1)  # the last one: any pool
        if len(self.partitions) not in (0, len(view.cluster.pools)):
            raise ValueError(
                f"slurm-multifactor: partitions = {self.partitions} must be one priority for each "
                f"of the {len(view.cluster.pools)} pools"
            )
        pools[: len(self.partitions)] = normalised(self.partitions)
        qos = normalised(np.concatenate([pending["priority"], view.running["priority"]]))
        factors = Factors(
            age=age(np.maximum(waited_s, 0.0), self.max_age_s),
            fairshare=self.fairshare(view, usage_gpu_s)[pending["tenant"]],
            job_size=job_size(pending["gpus"], view.cluster.num_gpus, self.favor_small),
            partition=pools[pending["pool"]],
            qos=qos[: len(pending)],
        )
        return multifactor(factors, self.weights)

    def fairshare(self, view: ClusterView, usage_gpu_s: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the fair-share factor of every queue; those of accounts mean nothing."""
        accounts = shares.Accounts(view.queues["parent"].tolist(), view.queues["weight"].tolist())
        if self.classic:
            return shares.classic(accounts, usage_gpu_s, self.damping)
        return shares.fair_tree(accounts, usage_gpu_s)

    def _may_start(self, view: ClusterView, gang: np.void) -> bool:
        """Return whether limits let a gang start."""
        same = view.running["priority"] == gang["priority"]
        mine = same & (view.running["tenant"] == gang["tenant"])
        of_qos, of_user = (int(view.running["gpus"][held].sum()) for held in (same, mine))
        qos, gpus = qos_of(gang["priority"]), int(gang["gpus"])
        return startable(view, gang) and self.limits.allow(qos, gpus, of_qos, of_user)

    def _stoppable(self, view: ClusterView, priority: float) -> list[int]:
        """Return the running gangs that a QOS may preempt, in the order in which they give way."""
        qos, running = qos_of(priority), view.running
        allowed = [
            view.preemption
            and not other["blocked"]
            and self.preemption.allows(
                qos, qos_of(other["priority"]), view.now_s - float(other["start_s"])
            )
            for other in running
        ]
        running = running[np.array(allowed, bool)]
        if self.youngest_first:
            order = np.argsort(-running["start_s"], kind="stable")
        else:
            order = np.lexsort((running["gpus"], running["priority"]))
        return running["id"][order].tolist()
