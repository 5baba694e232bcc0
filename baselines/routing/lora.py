"""A router that prefers replicas which have the request's LoRA adapter."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..policy import Observation
from .llmd import LLMD
from .router import check_at_least

if TYPE_CHECKING:
    from gpuyard.envs.scenario import Scenario

WITH_ROOM = 0.8


class LoRAAffinity(LLMD):
    """Weighted scorers of llm-d, with LoRA affinity: 1 if the adapter is there, 0.8 if it has room.

    Source: the LoRA affinity scorer of the Gateway API Inference Extension
    (``pkg/epp/scheduling/framework/plugins/scorer/lora_affinity.go``): 1 for an active adapter, 0.8
    below the replica's limit, 0.6 for one that waits to be loaded there, else 0. That third case is
    not seen here. Without adapters all candidates score alike in it.

    Args:
        lora: weight of the affinity, 0 or more.
        prefix, queue, kv: weights as of :class:`.llmd.LLMD`.
    """

    def __init__(
        self, *, lora: float = 1.0, prefix: float = 2.0, queue: float = 1.0, kv: float = 1.0
    ) -> None:
        super().__init__(prefix=prefix, queue=queue, kv=kv)
        self.lora = check_at_least("lora-affinity", "lora", lora, 0.0)

    def reset(self, scenario: Scenario, num_envs: int, seed: int = 0) -> None:
        """Learn whether requests name adapters."""
        super().reset(scenario, num_envs, seed)
        self.names_adapters = "lora" in self.layout.blocks

    def score(self, observation: Observation) -> NDArray[np.floating]:
        """Return the weighted sum."""
        total = super().score(observation)
        if self.names_adapters:
            here = self.column(observation, "candidates", "lora.adapter_here")
            room = self.column(observation, "candidates", "lora.adapter_room")
            total += self.lora * np.where(here > 0, 1.0, WITH_ROOM * room)
        return total
