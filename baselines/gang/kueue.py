"""Kueue: quotas with borrowing, preemption within queues and cohorts, fair sharing."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gpuyard.envs.cluster_view import ClusterView, Plan

from ..kueue.cohorts import Cohorts
from ..kueue.fair import LISTS, Strategy, fair
from ..kueue.preemption import Borrow, Policies, Reclaim, Within, Workload, classic
from ..kueue.search import Rule, Search
from ..room import Room
from .scheduler import Scheduler

Sharing = Literal["off", "final", "initial", "final-initial"]
STRATEGIES: dict[str, tuple[Strategy, ...]] = {"-".join(words): words for words in LISTS}


class Kueue(Scheduler):
    """Gangs are admitted by quota, those that need not borrow first, and stop others as it says.

    Source: Kueue, concepts/cluster_queue, /cohort, /preemption and /fair_sharing, KEPs 79, 83,
    1224, 1337 and 1714. A tenant's queue is a ClusterQueue: ``deserved`` its nominal quota,
    ``quota`` less that its borrowing limit, ``deserved`` less ``guarantee`` its lending limit;
    queues around it are cohorts, and what the cluster has beyond all of them is a root cohort's.
    In each queue gangs go by priority, then arrival. Of the first ones those come next that fit
    into their nominal quota, then by priority and arrival; with fair sharing, from the root down,
    the one whose queue or cohort has the least share with it. A gang within its nominal quota that
    can neither start nor reclaim keeps that quota from borrowers.

    Quotas count GPUs of any type (no flavors), and gangs that are stopped leave at once.

    Args:
        queueing: whether the first of a queue blocks those behind it ("strict-fifo") or not
            ("best-effort-fifo").
        within: whom of its own queue a gang may stop; where the scenario allows preemption.
        reclaim: whom of other queues that borrow.
        borrow: whether also while it borrows itself.
        threshold: highest priority of those; None: no limit.
        sharing: "off": classic preemption; else fair sharing by ``LessThanOrEqualToFinalShare``
            ("final"), ``LessThanInitialShare`` ("initial"), or the first and then the second.

    Raises:
        ValueError: ``borrow`` while ``reclaim`` is "never", which Kueue refuses too.
    """

    def __init__(
        self,
        *,
        queueing: Literal["best-effort-fifo", "strict-fifo"] = "best-effort-fifo",
        within: Within = "lower-priority",
        reclaim: Reclaim = "any",
        borrow: Borrow = "never",
        threshold: float | None = None,
        sharing: Sharing = "off",
    ) -> None:
        if borrow != "never" and reclaim == "never":
            raise ValueError(f"kueue: borrow = {borrow!r} needs a reclaim that is not 'never'")
        self.head_blocks = queueing == "strict-fifo"
        self.fair = sharing != "off"
        self.policies = Policies(within, reclaim, borrow, threshold)
        self.rule: Rule = partial(classic, policies=self.policies)
        if self.fair:
            self.rule = partial(fair, policies=self.policies, strategies=STRATEGIES[sharing])

    def plan(self, view: ClusterView) -> Plan | None:
        """Start the first gang that its quota and the placement let in, or that may stop others."""
        cohorts, room = cohorts_of(view), Room(view)
        gangs = workloads(view.running)
        for gang in gangs:
            cohorts.add(gang.queue, gang.gpus)
        blocked = view.running["blocked"] if view.preemption else np.ones(len(gangs))
        search = Search(view, room, self.placement)
        failed: set[tuple] = set()
        for row, newcomer in self._turns(view, cohorts):
            gang, speeds = view.pending[row], view.speeds[row]
            shape = (newcomer.gpus, *self.placement.shape(gang), speeds.tobytes())
            available = newcomer.gpus <= cohorts.available(newcomer.queue)
            if available and ("fits", *shape) not in failed:
                gpus = self.placement.place(room, gang, speeds)
                if gpus is not None:
                    return self.placement.commit(room, gang, gpus)
                failed.add(("fits", *shape))
            claim = (newcomer.queue, newcomer.priority, *shape)
            others = [] if claim in failed else self._stoppable(newcomer, gangs, blocked)
            if others:
                plan = search.plan(self.rule, cohorts, newcomer, others, gang, speeds)
                if plan is not None:
                    return plan
                failed.add(claim)
            self._keep(cohorts, newcomer)
        return None

    def _stoppable(
        self, newcomer: Workload, gangs: list[Workload], blocked: NDArray
    ) -> list[Workload]:
        """Return the running gangs that its policies let a newcomer stop."""
        allow = self.policies.allow
        return [
            gang
            for gang, kept in zip(gangs, blocked, strict=True)
            if not kept and allow(newcomer, gang)
        ]

    def _keep(self, cohorts: Cohorts, gang: Workload) -> None:
        """Keep nominal quota for a gang that waits for it and could not reclaim it."""
        if self.policies.reclaim != "any" and gang.gpus <= cohorts.capacity(gang.queue):
            short = cohorts.nominal[gang.queue] - cohorts.used[gang.queue]
            cohorts.add(gang.queue, max(0.0, min(gang.gpus, short)))

    def _turns(self, view: ClusterView, cohorts: Cohorts) -> Iterator[tuple[int, Workload]]:
        """Yield rows of pending gangs in the order of their turns, with their workloads."""
        waiting = workloads(view.pending)
        heads: dict[int, list[int]] = {}
        for row in sorted(range(len(waiting)), key=lambda row: _precedence(waiting[row], row)):
            if not view.pending["blocked"][row]:
                heads.setdefault(waiting[row].queue, []).append(row)
        while heads:
            first = {queue: rows[0] for queue, rows in heads.items()}
            row = (_least_share if self.fair else _borrowing_last)(cohorts, waiting, first)
            queue = waiting[row].queue
            heads[queue].pop(0)
            if self.head_blocks or not heads[queue]:
                del heads[queue]
            yield row, waiting[row]


def cohorts_of(view: ClusterView) -> Cohorts:
    """Return the queues of a view as cohorts under one root, with nothing in use."""
    queues = view.queues
    root = len(queues)
    deserved = queues["deserved"].astype(float)
    own = deserved.copy()  # a cohort's own quota is what those below it do not have
    inner = queues["parent"] >= 0
    np.subtract.at(own, queues["parent"][inner], deserved[inner])
    rest = view.cluster.num_gpus - deserved[~inner].sum()
    return Cohorts(
        [*np.where(inner, queues["parent"], root).tolist(), -1],
        [*own.tolist(), float(rest)],
        [*(queues["limit"] - deserved).tolist(), 0.0],
        [*(deserved - queues["guarantee"]).tolist(), 0.0],
        [*queues["weight"].tolist(), 1.0],
    )


def workloads(gangs: NDArray[np.void]) -> list[Workload]:
    """Return gangs of a view as quotas see them; those that wait were admitted at NaN."""
    names = ("id", "tenant", "gpus", "priority", "arrival_s", "start_s")
    columns = (gangs[name].tolist() for name in names)
    return [Workload(*row) for row in zip(*columns, strict=True)]


def _precedence(gang: Workload, row: int) -> tuple[float, float, int]:
    return -gang.priority, gang.queued_s, row


def _borrowing_last(cohorts: Cohorts, waiting: list[Workload], first: dict[int, int]) -> int:
    """Return the row of those first in their queues that borrows nothing, then by precedence."""

    def key(row: int) -> tuple[bool, tuple[float, float, int]]:
        gang = waiting[row]
        return not cohorts.within(gang.queue, gang.gpus), _precedence(gang, row)

    return min(first.values(), key=key)


def _least_share(cohorts: Cohorts, waiting: list[Workload], first: dict[int, int]) -> int:
    """Return the row that wins the tournament: in each cohort the child of the least share.

    Shares are those with the child's own winner admitted; then precedence decides.
    """

    def winner(node: int) -> int | None:
        found = []
        for child in cohorts.children[node]:
            row = winner(child)
            if row is not None:
                gang, with_it = waiting[row], cohorts.copy()
                with_it.add(gang.queue, gang.gpus)
                found.append((with_it.share(child), _precedence(gang, row), row))
        return min(found)[-1] if found else first.get(node)

    row = winner(len(cohorts.parent) - 1)
    assert row is not None, "every queue is below the root"
    return row
