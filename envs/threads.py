"""Plain threads that share the worlds of a batch; compiled code runs without Python's lock."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait

import numpy as np
from numpy.typing import NDArray


def shares(num_envs: int, num_threads: int) -> list[NDArray[np.bool_]]:
    """Return which environments each thread steps, bool (num_envs,): a contiguous range each.

    Nobody has none: there are no more threads than environments.
    """
    owner = np.arange(num_envs) * min(num_threads, num_envs) // num_envs
    return [owner == thread for thread in range(owner[-1] + 1)]


class Threads:
    """Threads that wait for work.

    Args:
        count: of threads, the caller's among them, at least 1.
    """

    def __init__(self, count: int) -> None:
        self._others = range(1, count)
        self._pool = ThreadPoolExecutor(max(count - 1, 1))  # a thread begins with its first work

    def total(self, work: Callable[[int], int]) -> int:
        """Return the sum of ``work(thread)`` over all threads, 0 being the caller's.

        It waits for all of them, also where one raises an error or a signal comes.
        """
        others = [self._pool.submit(work, thread) for thread in self._others]
        try:
            own = work(0)
        finally:
            wait(others)
        return own + sum(other.result() for other in others)
