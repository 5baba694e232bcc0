"""The jobs of one episode, or of a whole trace, as arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

UNNAMED = ("all",)
"""Tenants of a stream that names none."""


@dataclass(frozen=True)
class JobStream:
    """J jobs in order of arrival.

    Attributes:
        arrival_s: float64 (J,), not decreasing, from 0.
        gpus: int32 (J,), at least 1.
        duration_s: float64 (J,), run time on its reference GPU, communication without contention
            included; above 0.
        profile: int16 (J,), index into ``profiles``: what the job trains.
        comm_scale: float32 (J,), factor on the bytes it communicates (1: as its profile says).
        priority: float32 (J,), 0 lowest, 1 highest.
        tenant: int16 (J,), numbered from 0.
        pool: int16 (J,), the only pool it runs on, -1: any.
        profiles: names that :func:`gpuyard.envs.perf.training.gang_profile.profile` knows.
        tenants: names.
        estimate_s: float64 (J,), the run time that its user stated, nan where none did; None: in
            no job's case.
    """

    arrival_s: NDArray[np.float64]
    gpus: NDArray[np.int32]
    duration_s: NDArray[np.float64]
    profile: NDArray[np.int16]
    comm_scale: NDArray[np.float32]
    priority: NDArray[np.float32]
    tenant: NDArray[np.int16]
    pool: NDArray[np.int16]
    profiles: tuple[str, ...]
    tenants: tuple[str, ...] = UNNAMED
    estimate_s: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.arrival_s)
