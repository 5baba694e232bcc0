"""Fragmentation gradient descent: the node whose fragmentation grows least.

Source: Q. Weng et al., "Beware of Fragmentation: Scheduling GPU-Sharing Workloads with
Fragmentation Gradient Descent", USENIX ATC 2023, and the simulator published with it. The
fragmentation of a node is what the typical task, drawn from the workload, cannot use of its free
GPUs: all of it if the task does not fit on the node (or asks for no GPU), otherwise the pieces on
GPUs with less free than the task needs of one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gpuyard.envs.cluster_view import ClusterView

from .one_by_one import OneByOne
from .request import Ints, Request


@dataclass(frozen=True)
class Task:
    """A typical task.

    Attributes:
        gpus: whole GPUs, or a share of one below 1.
        popularity: its share of all tasks; those of a typical set sum to 1.
        cpus: CPU cores.
    """

    gpus: float
    popularity: float
    cpus: float = 0.0


def fragmentation(gpu_free: ArrayLike, tasks: list[Task], cpu_free: float = np.inf) -> float:
    """Return the GPUs of a node that a typical task cannot use, as an expectation.

    Args:
        gpu_free: (GPUs,), free share of each GPU of the node, 0 to 1.
        tasks: the typical set.
        cpu_free: free cores.
    """
    free = np.asarray(gpu_free, float)
    return float(sum(task.popularity * _unusable(free, task, cpu_free) for task in tasks))


def _unusable(free: NDArray[np.float64], task: Task, cpu_free: float) -> float:
    need = min(task.gpus, 1.0)  # of one GPU
    usable = free[free >= need]
    fits = 0 < task.gpus <= len(usable) * need and task.cpus <= cpu_free
    return free.sum() - usable.sum() if fits else free.sum()


def gradient(
    gpu_free: ArrayLike, gpu: int, amount: float, tasks: list[Task], cpu_free: float = np.inf
) -> float:
    """Return by how much fragmentation grows if a task takes ``amount`` of one GPU of a node."""
    after = np.array(gpu_free, float)
    after[gpu] -= amount
    return fragmentation(after, tasks, cpu_free) - fragmentation(gpu_free, tasks, cpu_free)


def typical_sizes(sizes: Ints, counts: Ints, popularity: float) -> list[Task]:
    """Return the most frequent sizes that cover a share of all tasks, renormalised.

    Args:
        sizes: GPUs of each kind of task.
        counts: how many tasks of it there are.
        popularity: share of the tasks to be covered, above 0, at most 1.
    """
    order = np.lexsort((sizes, -counts))
    covered = counts[order].cumsum() / counts.sum()
    order = order[: int(np.searchsorted(covered, popularity - 1e-12)) + 1]
    share = counts[order] / counts[order].sum()
    return [Task(float(sizes[kind]), float(part)) for kind, part in zip(order, share, strict=True)]


def by_free(node_gpus: int, tasks: list[Task]) -> NDArray[np.float64]:
    """Return the fragmentation of a node with 0, 1, ... ``node_gpus`` whole GPUs free."""
    return np.array([fragmentation(np.ones(free), tasks) for free in range(node_gpus + 1)])


class FGD(OneByOne):
    """Each pod on the node where it lowers fragmentation most, or raises it least.

    GPUs are whole and the only resource; tasks are pods (a gang of several nodes is so many tasks
    of a whole node), and the typical set is that of the gangs that run and wait.

    Args:
        popularity: share of the pods that the typical sizes cover.
        ties: see :class:`.one_by_one.OneByOne`.
        order: see :class:`.planner.TopologyPlanner`.
        pod_gpus: see there.

    Raises:
        ValueError: popularity outside (0, 1].
    """

    def __init__(
        self,
        *,
        popularity: float = 0.95,
        ties: str = "first",
        order: str = "fifo-first-fit",
        pod_gpus: int | None = None,
    ) -> None:
        super().__init__(ties=ties, order=order, pod_gpus=pod_gpus)
        if not 0 < popularity <= 1:
            raise ValueError(f"popularity = {popularity!r} must lie above 0 and at most at 1")
        self.popularity = popularity

    def begin(self, view: ClusterView) -> None:
        """Note the sizes of all gangs."""
        self.gangs = np.concatenate([view.pending["gpus"], view.running["gpus"]]).astype(np.int64)
        self.tables: dict[int, NDArray[np.float64]] = {}

    def score(self, request: Request, free: Ints, size: int, nodes: Ints) -> NDArray[np.float64]:
        """Return the fall of fragmentation."""
        if request.node_gpus not in self.tables:
            self.tables[request.node_gpus] = by_free(request.node_gpus, self._tasks(request))
        table = self.tables[request.node_gpus]
        return table[free] - table[np.maximum(free - size, 0)]

    def _tasks(self, request: Request) -> list[Task]:
        most = min(request.node_gpus, self.pod_gpus or request.node_gpus)
        whole, rest = np.divmod(self.gangs, most)
        counts = np.bincount(rest, minlength=most + 1)
        counts[0], counts[most] = 0, whole.sum()
        sizes = np.flatnonzero(counts)
        return typical_sizes(sizes, counts[sizes], self.popularity)
