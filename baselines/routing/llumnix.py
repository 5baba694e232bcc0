"""Llumnix's dispatch: to the replica whose free KV blocks last longest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..policy import Observation
from .router import Router

if TYPE_CHECKING:
    from gpuyard.envs.scenario import Scenario


def freeness(
    free_blocks: NDArray[np.float64],
    queued_blocks: NDArray[np.float64],
    requests: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the blocks that each request of a replica has left, inf where there is none.

    Below 0 where those that wait need more than is free. Times the tokens of a block these are the
    decode steps until the cache is full. Source: the "freeness" of Llumnix (OSDI 2024), (M - sum of
    virtual usages) / batch size, without its headroom for priorities; ``RemainingStepsLoad`` in
    ``llumnix/load_computation.py``, which counts the blocks of all waiting requests.

    Args:
        free_blocks: free KV blocks of each replica, any shape.
        queued_blocks: that those waiting there need.
        requests: running and waiting there.
    """
    left = free_blocks - queued_blocks
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(requests > 0, left / requests, np.inf)


class LlumnixDispatch(Router):
    """The replica of the highest freeness; among idle ones that with the most free blocks.

    Source: the dispatch policy "load" with "remaining_steps", the defaults of Llumnix
    (github.com/AlibabaPAI/llumnix, docs/Arguments.md).
    """

    def reset(self, scenario: Scenario, num_envs: int, seed: int = 0) -> None:
        """Learn the KV blocks of the replicas."""
        super().reset(scenario, num_envs, seed)
        self._kv_blocks = np.array([replica.kv_blocks for replica in scenario.replicas], float)
        sizes = [replica.deployment.block_size for replica in scenario.replicas]
        self._block_size = np.array(sizes, float)

    def score(self, observation: Observation) -> NDArray[np.floating]:
        """Return the freeness, shape (n, C), beyond all others where a replica is idle."""
        n = self.num_replicas
        read = {
            name: self.read(observation, "candidates", f"route.{name}")[:, :n].round()
            for name in ("kv_blocks", "queued_tokens", "running", "waiting")
        }
        queued = np.ceil(read["queued_tokens"] / self._block_size)
        free = self._kv_blocks - read["kv_blocks"]
        left = freeness(free, queued, read["running"] + read["waiting"])
        scores = np.zeros(observation["action_mask"].shape)
        scores[:, :n] = np.where(np.isinf(left), 1e12 + free, left)
        return scores
