"""Cohorts and workloads by name, for the examples of Kueue's documentation and tests."""

from __future__ import annotations

from math import inf

from gpuyard.baselines.kueue.cohorts import Cohorts
from gpuyard.baselines.kueue.preemption import Workload


class Quotas:
    """Queues by name: ``{"a": ("all", 3), "all": (None, 0)}`` with parent and nominal quota.

    Further entries of a row, by keyword: ``borrowing``, ``lending``, ``weight``.
    """

    def __init__(self, rows: dict[str, tuple]) -> None:
        self.names = list(rows)
        parents = [None if row[0] is None else self.names.index(row[0]) for row in rows.values()]
        more = [row[2] if len(row) > 2 else {} for row in rows.values()]
        self.cohorts = Cohorts(
            [-1 if parent is None else parent for parent in parents],
            [row[1] for row in rows.values()],
            [options.get("borrowing", inf) for options in more],
            [options.get("lending", inf) for options in more],
            [options.get("weight", 1.0) for options in more],
        )
        self.workloads: list[str] = []

    def node(self, name: str) -> int:
        return self.names.index(name)

    def admitted(self, *rows: tuple) -> list[Workload]:
        """Admit (name, queue, gpus, priority=0, queued_s=0, admitted_s=0)."""
        return [self._add(row) for row in rows]

    def _add(self, row: tuple) -> Workload:
        name, queue, gpus, *rest = row
        self.workloads.append(name)
        self.cohorts.add(self.node(queue), gpus)
        return Workload(len(self.workloads) - 1, self.node(queue), gpus, *rest)

    def newcomer(self, queue: str, gpus: float, priority: float = 0.0, queued_s=0.0) -> Workload:
        return Workload(10_000, self.node(queue), gpus, priority, queued_s)

    def called(self, gangs: list[Workload]) -> set[str]:
        return {self.workloads[gang.name] for gang in gangs}
