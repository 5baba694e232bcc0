"""Queue orders, each once: a number for every gang, the lowest comes first, ties to the oldest.

Rules that choose among the rows of an observation and planners that read the whole queue ask the
same functions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpuyard.envs.cluster_view import ClusterView

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Queue:
    """What queue orders weigh, of each gang or of each row that would start one.

    Attributes:
        gpus: it asks for.
        estimate_s: believed run time at speed 1.
        executed_s: run time so far.
        age_s: since its arrival.
        position: in the order of arrival.
        waiting: gangs that wait, all in all; it broadcasts against the others.
    """

    gpus: Array
    estimate_s: Array
    executed_s: Array
    age_s: Array
    position: Array
    waiting: Array

    @property
    def left_s(self) -> Array:
        """Believed run time that is left."""
        return np.maximum(self.estimate_s - self.executed_s, 0.0)

    @property
    def waited_s(self) -> Array:
        """Time since arrival that it did not run."""
        return np.maximum(self.age_s - self.executed_s, 0.0)


def queue_of(view: ClusterView) -> Queue:
    """Return what orders weigh of the pending gangs of a view."""
    pending = view.pending
    return Queue(
        gpus=pending["gpus"].astype(float),
        estimate_s=pending["estimate_s"],
        executed_s=pending["executed_s"],
        age_s=view.now_s - pending["arrival_s"],
        position=np.arange(len(pending), dtype=float),
        waiting=np.array(float(len(pending))),
    )


def oldest(queue: Queue) -> Array:
    """Order of arrival."""
    return queue.position


def shortest(queue: Queue) -> Array:
    """Estimated run time."""
    return queue.estimate_s


def smallest(queue: Queue) -> Array:
    """GPUs."""
    return queue.gpus


def least_area(queue: Queue) -> Array:
    """GPU time left, g (r - e)."""
    return queue.gpus * queue.left_s


def dynamic(queue: Queue, longest: float = 6) -> Array:
    """Arrival; GPUs once more than ``longest`` gangs wait."""
    return np.where(queue.waiting > longest + 0.5, queue.gpus, queue.position)


def wfp3(queue: Queue) -> Array:
    """Minus (w / r)^3 n."""
    return -((queue.waited_s / np.maximum(queue.estimate_s, 1.0)) ** 3) * queue.gpus


def unicep(queue: Queue) -> Array:
    """Minus w / (log2(n) r); one GPU counts as two, for log2(1) = 0."""
    run_s = np.maximum(queue.estimate_s, 1.0)
    return -queue.waited_s / (np.log2(np.maximum(queue.gpus, 2.0)) * run_s)


Key = Callable[[Queue], Array]
