"""What tenants have used, as a scheduler that sees only its own decisions can tell."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gpuyard.envs.cluster_view import ClusterView

from .fairshare import decayed


@dataclass
class Usage:
    """GPU seconds that each tenant is charged for, less with their age.

    Attributes:
        at_s: when it was last brought up to date.
        gpu_s: of each queue.
        seen: of each gang that ran or waited then: tenant, GPUs, run time, believed end.
    """

    at_s: float = 0.0
    gpu_s: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    seen: dict[int, tuple[int, int, float, float]] = field(default_factory=dict)

    def update(self, view: ClusterView, half_life_s: float) -> None:
        """Charge what ran since the last look; a gang that is gone ran until its believed end."""
        if len(self.gpu_s) != len(view.queues):
            self.gpu_s = np.zeros(len(view.queues))
        self.gpu_s = decayed(self.gpu_s, view.now_s - self.at_s, half_life_s)
        now = {
            int(gang["id"]): (
                int(gang["tenant"]),
                int(gang["gpus"]),
                float(gang["executed_s"]),
                end_s,
            )
            for gangs in (view.pending, view.running)
            for gang, end_s in zip(gangs, gangs["end_s"].tolist(), strict=True)
        }
        for name, (tenant, gpus, executed_s, end_s) in self.seen.items():
            if name in now:
                ran_s = now[name][2] - executed_s
            else:
                ran_s = max(min(end_s, view.now_s) - self.at_s, 0.0)
            self.gpu_s[tenant] += gpus * ran_s
        for name in now.keys() - self.seen.keys():
            tenant, gpus, executed_s, _ = now[name]
            self.gpu_s[tenant] += gpus * executed_s
        self.at_s, self.seen = view.now_s, now
