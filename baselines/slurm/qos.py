"""Slurm's QOS: who may preempt whom, which jobs give way, and limits on what runs at a time.

Source: Slurm, ``qos``, ``preempt`` and ``resource_limits`` documentation. A QOS goes by its
priority. ``PreemptMode`` is requeue: a job that gives way waits again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from ..routing.router import check_at_least

Job = TypeVar("Job")


@dataclass(frozen=True)
class Preemption:
    """Which QOS may preempt which.

    Attributes:
        lists: for each QOS the others that it may preempt; None: all of lower priority.
        exempt_s: run time before which a job is not preempted (``PreemptExemptTime``).
    """

    lists: Mapping[float, frozenset[float]] | None = None
    exempt_s: float = 0.0

    def allows(self, qos: float, other: float, ran_s: float) -> bool:
        """Return whether a job of a QOS may preempt one of another that has run for so long."""
        if ran_s < self.exempt_s:
            return False
        return other < qos if self.lists is None else other in self.lists.get(qos, frozenset())


@dataclass(frozen=True)
class Limits:
    """GPUs that may run at a time; a job that would exceed one waits, and holds nobody up.

    Attributes:
        group: by all jobs of a QOS (``GrpTRES``).
        user: by all jobs of one user in a QOS (``MaxTRESPerUser``).
    """

    group: Mapping[float, float]
    user: Mapping[float, float]

    def allow(self, qos: float, gpus: float, of_qos: float, of_user: float) -> bool:
        """Return whether a job may start beside what its QOS and its user in it already hold."""
        group, user = self.group.get(qos), self.user.get(qos)
        return (group is None or of_qos + gpus <= group) and (
            user is None or of_user + gpus <= user
        )


def victims(
    candidates: Sequence[Job],
    fits: Callable[[list[Job]], bool],
    overlaps: Callable[[list[Job]], Mapping[Job, int]],
    strict: bool = False,
) -> list[Job]:
    """Return the jobs to preempt so that another starts; none if all of them are not enough.

    Candidates are taken in their order until it fits. Then, unless the order is ``strict``, they
    are tried again with the last one first and the others by how much of the chosen nodes they
    hold, which stops fewer (``preempt_reorder_count`` of 1).

    Args:
        candidates: in the order in which they give way.
        fits: whether the job starts once these are gone.
        overlaps: nodes that each of these holds of those chosen once they are gone.
        strict: ``preempt_strict_order``.
    """
    taken = _until(candidates, fits) if fits(list(candidates)) else []
    if strict or len(taken) < 2:
        return taken
    *others, last = taken
    overlap = overlaps(taken)
    others.sort(key=lambda job: -overlap[job])
    return _until([last, *others], fits)


def _until(candidates: Sequence[Job], fits: Callable[[list[Job]], bool]) -> list[Job]:
    taken: list[Job] = []
    for job in candidates:
        taken.append(job)
        if fits(taken):
            return taken
    return []


def qos_of(priority: float) -> float:
    """Return the QOS of a gang of some priority: the number by which options name it."""
    return round(float(priority), 6)


def preempt_lists(pairs: Sequence[str]) -> dict[float, frozenset[float]] | None:
    """Return the preempt list of each QOS from pairs such as "1:0"; None if there are none.

    Raises:
        ValueError: a pair is no two numbers.
    """
    lists: dict[float, frozenset[float]] = {}
    for pair in pairs:
        try:
            qos, other = (qos_of(float(part)) for part in pair.split(":"))
        except ValueError:
            raise ValueError(
                f"slurm-multifactor: preempt = {pair!r} must be two priorities, as in '1:0'"
            ) from None
        lists[qos] = lists.get(qos, frozenset()) | {other}
    return lists or None


def limits_by_qos(option: str, gpus: Mapping[str, float]) -> dict[float, float]:
    """Return limits by the priority of their QOS.

    Raises:
        ValueError: a QOS is no number, or a limit below 0.
    """
    found = {}
    for qos, limit in gpus.items():
        try:
            found[qos_of(float(qos))] = check_at_least("slurm-multifactor", option, limit, 0.0)
        except ValueError:
            raise ValueError(
                f"slurm-multifactor: {option} = {qos}:{limit} must be a priority and GPUs, >= 0"
            ) from None
    return found
