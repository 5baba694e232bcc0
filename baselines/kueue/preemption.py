"""Kueue's classic preemption: whom a gang may stop, in which order, and how few of them suffice.

Source: Kueue, concepts/preemption, KEP 83, KEP 1337 and ``preemption/classical``. Candidates come
in this order: gangs over which the newcomer has a hierarchical advantage (it fits into the quota
of a cohort that theirs is outside of), gangs of other queues that borrow, gangs of its own queue;
in each of the three lowest priority first, then admitted last. They are removed one by one until
the newcomer fits, and put back in the reverse order where it fits all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from .cohorts import Cohorts

Within = Literal["never", "lower-priority", "lower-or-newer-equal-priority"]
Reclaim = Literal["never", "lower-priority", "any"]
Borrow = Literal["never", "lower-priority"]


@dataclass(frozen=True)
class Workload:
    """A gang as quotas see it.

    Attributes:
        name: its id.
        queue: node of the cohorts.
        gpus: it holds or asks for.
        priority: higher is more important.
        queued_s: when it arrived.
        admitted_s: when its present run started.
    """

    name: int
    queue: int
    gpus: float
    priority: float = 0.0
    queued_s: float = 0.0
    admitted_s: float = 0.0


@dataclass(frozen=True)
class Policies:
    """When a queue may preempt.

    Attributes:
        within: gangs of its own queue (``withinClusterQueue``).
        reclaim: gangs of other queues that borrow (``reclaimWithinCohort``).
        borrow: those also where the newcomer will borrow itself (``borrowWithinCohort``).
        threshold: highest priority of gangs that are preempted while borrowing
            (``maxPriorityThreshold``); None: no limit.
    """

    within: Within = "never"
    reclaim: Reclaim = "never"
    borrow: Borrow = "never"
    threshold: float | None = None

    def allow(self, newcomer: Workload, other: Workload) -> bool:
        """Return whether priorities let a newcomer stop another gang."""
        rule = self.within if newcomer.queue == other.queue else self.reclaim
        lower = other.priority < newcomer.priority
        if rule == "lower-or-newer-equal-priority":
            newer = other.priority == newcomer.priority and other.queued_s > newcomer.queued_s
            return lower or newer
        return rule == "any" or (rule == "lower-priority" and lower)

    def while_borrowing(self, newcomer: Workload, other: Workload) -> bool:
        """Return whether a newcomer that borrows may stop a gang of another queue."""
        low = self.threshold is None or other.priority <= self.threshold
        return self.borrow != "never" and other.priority < newcomer.priority and low


Placed = Callable[[list[Workload]], bool]
"""Whether the newcomer can be placed once these gangs have been removed."""
Rank = Callable[[Workload], float]
"""A first key of the order of candidates, lower first."""


class Trial:
    """Gangs removed from the cohorts one by one until a newcomer fits.

    Attributes:
        cohorts: what is in use without those removed.
        removed: in the order in which they were.
    """

    def __init__(self, cohorts: Cohorts, newcomer: Workload, placed: Placed) -> None:
        self.cohorts, self.newcomer, self.placed = cohorts.copy(), newcomer, placed
        self.removed: list[Workload] = []

    def remove(self, gang: Workload) -> None:
        """Take a gang off."""
        self.cohorts.remove(gang.queue, gang.gpus)
        self.removed.append(gang)

    def fits(self, borrow: bool = True) -> bool:
        """Return whether quota, with or without borrowing, and placement let the newcomer in."""
        queue, gpus = self.newcomer.queue, self.newcomer.gpus
        if not borrow and not self.cohorts.within(queue, gpus):
            return False
        return gpus <= self.cohorts.available(queue) and self.placed(self.removed)

    def fewest(self, borrow: bool = True) -> list[Workload]:
        """Put back, last removed first, whoever is not needed, and return the rest."""
        for gang in self.removed[-2::-1]:
            self.cohorts.add(gang.queue, gang.gpus)
            self.removed.remove(gang)
            if not self.fits(borrow):
                self.cohorts.remove(gang.queue, gang.gpus)
                self.removed.append(gang)
        return self.removed


@dataclass(frozen=True)
class Candidate:
    """A gang that may be stopped.

    Attributes:
        gang: it.
        meets: the cohort at which its queue and the newcomer's meet; -1: the same queue.
        borrows: whether the newcomer may borrow when it stops this one.
    """

    gang: Workload
    meets: int = -1
    borrows: bool = True

    def valid(self, cohorts: Cohorts, borrow: bool) -> bool:
        """Return whether its queue still borrows, and its cohorts below the meeting point."""
        if self.meets < 0:
            return True
        queue = self.gang.queue
        if (borrow and not self.borrows) or cohorts.within(queue):
            return False
        for node in cohorts.above(queue):
            if node == self.meets:
                break
            if cohorts.within(node):
                return False
        return True


def classic(
    cohorts: Cohorts,
    newcomer: Workload,
    admitted: Iterable[Workload],
    policies: Policies,
    placed: Placed = lambda removed: True,
    rank: Rank = lambda gang: 0.0,
) -> list[Workload]:
    """Return the gangs to stop so that a newcomer fits; none if there is no such set.

    Args:
        cohorts: with the use of all that runs.
        newcomer: that does not fit as it is.
        admitted: gangs that may be stopped, of any queue.
        policies: of the newcomer's queue.
        placed: see :data:`Placed`.
        rank: see :data:`Rank`.
    """
    by_queue: dict[int, list[Workload]] = {}
    for gang in admitted:
        if policies.allow(newcomer, gang):
            by_queue.setdefault(gang.queue, []).append(gang)

    def ordered(found: list[Candidate]) -> list[Candidate]:
        return sorted(found, key=lambda one: (rank(one.gang), *precedence(one.gang)))

    reach = list(_reach(cohorts, newcomer, by_queue, policies))
    advantage = ordered([one for one, nearer in reach if nearer])
    others = ordered([one for one, nearer in reach if not nearer])
    own = ordered([Candidate(gang) for gang in by_queue.get(newcomer.queue, [])])
    forbidden = policies.borrow == "never"
    under = cohorts.used[newcomer.queue] < cohorts.nominal[newcomer.queue]
    if not reach or (forbidden and not under):
        attempts = [True]
    elif forbidden and not advantage:
        attempts = [False, True]
    else:
        attempts = [True, False]
    for borrow in attempts:
        trial = Trial(cohorts, newcomer, placed)
        for candidate in (*advantage, *others, *own):
            if candidate.valid(trial.cohorts, borrow):
                trial.remove(candidate.gang)
                if trial.fits(borrow):
                    return trial.fewest(borrow)
    return []


def precedence(gang: Workload) -> tuple[float, float, int]:
    """Return the key by which gangs are stopped: lowest priority, then admitted last."""
    return gang.priority, -gang.admitted_s, gang.name


def _reach(
    cohorts: Cohorts, newcomer: Workload, by_queue: dict[int, list[Workload]], policies: Policies
) -> Iterator[tuple[Candidate, bool]]:
    """Yield the gangs of other queues that borrow, and whether the newcomer is nearer to the quota.

    It is over those outside the lowest cohort whose quota holds it.
    """
    nearer = cohorts.within(newcomer.queue, newcomer.gpus)
    rest = max(0.0, newcomer.gpus - cohorts.spare(newcomer.queue))
    seen = newcomer.queue
    for cohort in cohorts.above(newcomer.queue):
        for queue in _borrowers(cohorts, cohort, seen):
            for gang in by_queue.get(queue, []):
                borrows = nearer or policies.while_borrowing(newcomer, gang)
                yield Candidate(gang, cohort, borrows), nearer
        nearer = nearer or cohorts.within(cohort, rest)
        rest = max(0.0, rest - cohorts.spare(cohort))
        seen = cohort


def _borrowers(cohorts: Cohorts, cohort: int, skip: int) -> Iterator[int]:
    """Yield the queues below a cohort that borrow, all their cohorts on the way borrowing too."""
    for node in cohorts.children[cohort]:
        if node != skip and not cohorts.within(node):
            if cohorts.children[node]:
                yield from _borrowers(cohorts, node, skip)
            else:
                yield node
