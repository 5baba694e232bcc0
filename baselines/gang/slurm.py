"""Slurm: multifactor priority, fair share of accounts, QOS that preempt, and backfill."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gpuyard.envs.cluster_view import ClusterView, Plan

from ..room import GPUs, Room, startable
from ..routing.router import check_at_least
from ..slurm import fairshare as shares
from ..slurm.priority import Factors, Weights, age, job_size, multifactor, normalised
from ..slurm.qos import Limits, Preemption, victims
from .conservative import ConservativeBackfill
from .remembering import Remembering

DAY_S = 86_400.0


@dataclass
class Usage:
    """GPU seconds that each tenant is charged for, less with their age.

    Attributes:
        at_s: when it was last brought up to date.
        gpu_s: of each queue.
        seen: of each gang that ran or waited then: tenant, GPUs, run time, believed end.
    """

    at_s: float = 0.0
    gpu_s: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    seen: dict[int, tuple[int, int, float, float]] = field(default_factory=dict)

    def update(self, view: ClusterView, half_life_s: float) -> None:
        """Charge what ran since the last look; a gang that is gone ran until its believed end."""
        if len(self.gpu_s) != len(view.queues):
            self.gpu_s = np.zeros(len(view.queues))
        self.gpu_s = shares.decayed(self.gpu_s, view.now_s - self.at_s, half_life_s)
        now = {
            int(gang["id"]): (
                int(gang["tenant"]),
                int(gang["gpus"]),
                float(gang["executed_s"]),
                end_s,
            )
            for gangs in (view.pending, view.running)
            for gang, end_s in zip(gangs, gangs["end_s"].tolist(), strict=True)
        }
        for name, (tenant, gpus, executed_s, end_s) in self.seen.items():
            if name in now:
                ran_s = now[name][2] - executed_s
            else:
                ran_s = max(min(end_s, view.now_s) - self.at_s, 0.0)
            self.gpu_s[tenant] += gpus * ran_s
        for name in now.keys() - self.seen.keys():
            tenant, gpus, executed_s, _ = now[name]
            self.gpu_s[tenant] += gpus * executed_s
        self.at_s, self.seen = view.now_s, now


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
        self.preemption = Preemption(_lists(preempt), exempt_s)
        self.limits = Limits(
            _by_qos("group_gpus", group_gpus or {}), _by_qos("user_gpus", user_gpus or {})
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
        rows = [row for row, gang in enumerate(view.pending) if self._may_start(view, gang)]
        priority = self.priorities(view, usage.gpu_s)
        may_stop = {row: self._stoppable(view, view.pending[row]) for row in rows}
        rows.sort(key=lambda row: (not len(may_stop[row]), -priority[row], row))
        room = Room(view)
        for row in rows:
            gang, speeds = view.pending[row], view.speeds[row]
            gpus = self.placement.place(room, gang, speeds)
            if gpus is not None:
                return self.placement.commit(room, gang, gpus)
            plan = self._preempt(view, room, gang, speeds, may_stop[row])
            if plan is not None:
                return plan
            if self.backfill != "first-fit":
                break
        if self.backfill != "conservative" or not rows:
            return None
        ordered = replace(view, pending=view.pending[rows], speeds=view.speeds[rows])
        backfill = ConservativeBackfill()
        backfill.placement = self.placement
        return backfill.plan(ordered)

    def priorities(
        self, view: ClusterView, usage_gpu_s: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return the priority of every pending gang."""
        pending = view.pending
        waited_s = view.now_s - pending["arrival_s"] - pending["executed_s"]
        pools = np.append(np.zeros(len(view.cluster.pools)), 0.0)  # the last one: any pool
        pools[: len(self.partitions)] = normalised(self.partitions)[: len(pools) - 1]
        highest = max(float(view.running["priority"].max(initial=0.0)), 1e-12)
        highest = max(float(pending["priority"].max(initial=0.0)), highest)
        factors = Factors(
            age=age(np.maximum(waited_s, 0.0), self.max_age_s),
            fairshare=self.fairshare(view, usage_gpu_s)[pending["tenant"]],
            job_size=job_size(pending["gpus"], view.cluster.num_gpus, self.favor_small),
            partition=pools[pending["pool"]],
            qos=pending["priority"] / highest,
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
        qos = round(float(gang["priority"]), 6)
        return startable(view, gang) and self.limits.allow(qos, int(gang["gpus"]), of_qos, of_user)

    def _stoppable(self, view: ClusterView, gang: np.void) -> NDArray[np.void]:
        """Return the running gangs that one may preempt, in the order in which they give way."""
        running = view.running
        if not view.preemption or not len(running):
            return running[:0]
        qos, ran_s = float(gang["priority"]), view.now_s - running["start_s"]
        allowed = [
            not other["blocked"]
            and self.preemption.allows(
                round(qos, 6), round(float(other["priority"]), 6), float(ran)
            )
            for other, ran in zip(running, ran_s, strict=True)
        ]
        running = running[np.array(allowed, bool)]
        if self.youngest_first:
            return running[np.argsort(-running["start_s"], kind="stable")]
        return running[np.lexsort((running["gpus"], running["priority"]))]

    def _preempt(
        self,
        view: ClusterView,
        room: Room,
        gang: np.void,
        speeds: NDArray[np.float64],
        candidates: NDArray[np.void],
    ) -> Plan | None:
        """Return the plan that requeues some of the candidates and starts a gang, or None."""
        slots = room.free.shape[1]
        held = {
            int(name): np.unique(np.flatnonzero(view.gpu_job == name) // slots)
            for name in candidates["id"]
        }

        def freed(taken: list[int]) -> Room:
            trial = room.copy()
            for name in taken:
                trial.vacate(view, name)
            return trial

        def chosen(taken: list[int]) -> GPUs | None:
            trial = freed(taken)
            if trial.node_free.sum() < gang["gpus"]:
                return None
            return self.placement.place(trial, gang, speeds)

        def overlap(taken: list[int], name: int) -> int:
            gpus = chosen(taken)
            return 0 if gpus is None else int(np.isin(held[name], gpus // slots).sum())

        taken = victims(
            candidates["id"].tolist(),
            lambda taken: chosen(taken) is not None,
            overlap,
            self.strict_order,
        )
        gpus = chosen(taken) if taken else None
        if gpus is None:
            return None
        owners = set(view.gpu_job[gpus].tolist())
        needed = [name for name in taken if name in owners]
        if not freed(needed).joins(gpus):
            return None  # circuits of gangs that run on are not to be had
        return self.placement.commit(freed(needed), gang, gpus, tuple(sorted(needed)))


def _lists(pairs: Sequence[str]) -> dict[float, frozenset[float]] | None:
    """Return the preempt list of each QOS; None: all lower ones.

    Raises:
        ValueError: a pair is no two numbers.
    """
    lists: dict[float, frozenset[float]] = {}
    for pair in pairs:
        try:
            qos, other = (round(float(part), 6) for part in pair.split(":"))
        except ValueError:
            raise ValueError(
                f"slurm-multifactor: preempt = {pair!r} must be two priorities, as in '1:0'"
            ) from None
        lists[qos] = lists.get(qos, frozenset()) | {other}
    return lists or None


def _by_qos(option: str, gpus: Mapping[str, float]) -> dict[float, float]:
    """Return limits by the priority of their QOS.

    Raises:
        ValueError: a QOS is no number, or a limit below 0.
    """
    found = {}
    for qos, limit in gpus.items():
        try:
            found[round(float(qos), 6)] = check_at_least("slurm-multifactor", option, limit, 0.0)
        except ValueError:
            raise ValueError(
                f"slurm-multifactor: {option} = {qos}:{limit} must be a priority and GPUs, >= 0"
            ) from None
    return found
