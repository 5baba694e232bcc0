"""Kueue's fair sharing: queues that borrow more than the newcomer's give way to it.

Source: Kueue, concepts/preemption (Fair Sharing), KEP 1714 and ``fair_strategy.go``. From the root
down the child of the highest share is followed to a queue, whose next candidate is tried; shares
are compared where the ways of the two queues meet (AlmostLCA), the newcomer's with itself admitted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

from .cohorts import Cohorts, Share
from .preemption import Placed, Policies, Rank, Trial, Workload, precedence

Strategy = Literal["final", "initial"]
"""``LessThanOrEqualToFinalShare`` (rule S2-a of the KEP) and ``LessThanInitialShare`` (S2-b)."""

LISTS: tuple[tuple[Strategy, ...], ...] = (("final",), ("initial",), ("final", "initial"))
"""The lists of strategies that Kueue accepts."""


class Fair:
    """The search for one newcomer.

    Attributes:
        trial: what was removed so far; its cohorts count the newcomer as admitted.
    """

    def __init__(self, cohorts: Cohorts, newcomer: Workload, placed: Placed) -> None:
        self.newcomer, self.trial = newcomer, Trial(cohorts, newcomer, placed)
        self.path = {newcomer.queue, *cohorts.above(newcomer.queue)}
        self.admit()

    def admit(self) -> None:
        """Count the newcomer as admitted: shares are compared with it."""
        self.trial.cohorts.add(self.newcomer.queue, self.newcomer.gpus)

    def fits(self) -> bool:
        """Return whether the newcomer fits."""
        self.trial.cohorts.remove(self.newcomer.queue, self.newcomer.gpus)
        fits = self.trial.fits()
        self.admit()
        return fits

    def fewest(self) -> list[Workload]:
        """Return the removed gangs that are needed."""
        self.trial.cohorts.remove(self.newcomer.queue, self.newcomer.gpus)
        return self.trial.fewest()

    def queues(self, left: dict[int, list[Workload]]) -> Iterator[int]:
        """Yield the queue whose turn it is, as long as there are candidates ``left``.

        Whoever takes a queue from here removes candidates from it. Of equal shares cohorts come
        before queues, then the one whose next candidate would be stopped first.
        """
        root = ([self.newcomer.queue, *self.trial.cohorts.above(self.newcomer.queue)])[-1]
        while (queue := self._highest(root, left)) is not None:
            yield queue

    def _highest(self, node: int, left: dict[int, list[Workload]]) -> int | None:
        cohorts = self.trial.cohorts
        if not cohorts.children[node]:
            return node if left.get(node) else None
        found: list[tuple[Share, bool, tuple[float, ...], int]] = []
        for child in cohorts.children[node]:
            if cohorts.within(child) and child not in self.path:
                continue  # borrows nothing: whatever is below it, is not to be had
            queue = self._highest(child, left)
            if queue is not None:
                first = tuple(-key for key in precedence(left[queue][0]))
                found.append((cohorts.share(child), bool(cohorts.children[child]), first, queue))
        return max(found)[-1] if found else None

    def shares(self, queue: int) -> tuple[Share, Share]:
        """Return the shares of the newcomer's side and of another queue's, where they meet."""
        cohorts = self.trial.cohorts
        mine, theirs = cohorts.below_common(self.newcomer.queue, queue)
        return cohorts.share(mine), cohorts.share(theirs)

    def share_without(self, gang: Workload) -> Share:
        """Return the share of another queue's side without one of its gangs."""
        cohorts = self.trial.cohorts
        cohorts.remove(gang.queue, gang.gpus)
        share = self.shares(gang.queue)[1]
        cohorts.add(gang.queue, gang.gpus)
        return share


def fair(
    cohorts: Cohorts,
    newcomer: Workload,
    admitted: Iterable[Workload],
    policies: Policies,
    placed: Placed = lambda removed: True,
    rank: Rank = lambda gang: 0.0,
    strategies: tuple[Strategy, ...] = LISTS[-1],
) -> list[Workload]:
    """Return the gangs to stop so that a newcomer fits; none if there is no such set.

    A newcomer within its queue's nominal quota may stop any candidate, whatever the shares.
    ``borrowWithinCohort`` means nothing here.

    Args:
        cohorts: with the use of all that runs.
        newcomer: that does not fit as it is.
        admitted: gangs that may be stopped, of any queue.
        policies: of the newcomer's queue.
        placed: whether the newcomer can be placed without some gangs.
        rank: a first key of the order of candidates inside a queue, lower first.
        strategies: one of :data:`LISTS`, tried in this order.
    """
    left: dict[int, list[Workload]] = {}
    for gang in sorted(admitted, key=lambda gang: (rank(gang), *precedence(gang))):
        own = gang.queue == newcomer.queue
        if policies.allow(newcomer, gang) and (own or not cohorts.within(gang.queue)):
            left.setdefault(gang.queue, []).append(gang)
    search = Fair(cohorts, newcomer, placed)
    refused: dict[int, list[Workload]] = {}
    for queue in search.queues(left):
        taken = _next(search, queue, left, refused, strategies[0])
        if taken is not None:
            search.trial.remove(taken)
            if search.fits():
                return search.fewest()
    if len(strategies) > 1:
        for queue in search.queues(refused):
            mine, theirs = search.shares(queue)
            gang = refused.pop(queue)[0]  # one of each queue at most
            if mine < theirs:
                search.trial.remove(gang)
                if search.fits():
                    return search.fewest()
    return []


def _next(
    search: Fair,
    queue: int,
    left: dict[int, list[Workload]],
    refused: dict[int, list[Workload]],
    strategy: Strategy,
) -> Workload | None:
    """Take from ``left`` the next gang of a queue that may be stopped, and note those refused."""
    newcomer, cohorts = search.newcomer, search.trial.cohorts
    if queue == newcomer.queue or cohorts.within(newcomer.queue):
        return left[queue].pop(0)
    mine, theirs = search.shares(queue)
    while left[queue]:
        gang = left[queue].pop(0)
        if mine < theirs if strategy == "initial" else mine <= search.share_without(gang):
            return gang
        refused.setdefault(queue, []).append(gang)
    return None
