"""Who plays the tasks of a sweep: processes of this machine, or those of a Ray cluster.

Both are a :class:`concurrent.futures.Executor` to the sweep. Processes are spawned, not forked:
threads of numba and torch do not survive a fork.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

EXECUTORS = ("local", "ray")


def executor(kind: str, processes: int) -> Executor:
    """Return an executor.

    Args:
        kind: one of :data:`EXECUTORS`.
        processes: how many; a Ray cluster that ``RAY_ADDRESS`` names has its own number.

    Raises:
        ImportError: Ray is not installed.
        ValueError: there is no such kind.
    """
    if kind == "local":
        return ProcessPoolExecutor(processes, mp_context=get_context("spawn"))
    if kind == "ray":
        return RayExecutor(processes)
    raise ValueError(f"executor {kind!r} is none of {', '.join(EXECUTORS)}")


class RayExecutor(Executor):
    """Ray's workers. Ray itself plays a task again whose worker was lost, up to three times."""

    def __init__(self, processes: int) -> None:
        try:
            import ray
        except ImportError:
            raise ImportError("--executor ray needs Ray: pip install 'gpuyard[ray]'") from None
        self._ray: Any = ray
        own: dict[str, Any] = {}
        if not os.environ.get("RAY_ADDRESS"):  # workers of this machine import what this one does
            paths = os.pathsep.join(filter(None, sys.path))
            own = {"num_cpus": processes, "runtime_env": {"env_vars": {"PYTHONPATH": paths}}}
        ray.init(ignore_reinit_error=True, log_to_driver=False, **own)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Have a worker call ``fn``."""
        return self._ray.remote(max_retries=3)(fn).remote(*args, **kwargs).future()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Let go of the cluster; what has not been played is not."""
        self._ray.shutdown()
