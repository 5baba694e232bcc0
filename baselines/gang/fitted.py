"""Orders that were fitted to simulated schedules: F1 to F4."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from gpuyard.envs.cluster_view import ClusterView, Plan

from .scheduler import Scheduler
from .starting import next_start

Array = NDArray[np.float64]

# of estimate r (s), GPUs n and time of arrival s (s since the start); lower first
FUNCTIONS: dict[str, Callable[[Array, Array, Array], Array]] = {
    "f1": lambda r, n, s: np.log10(r) * n + 870 * np.log10(s),
    "f2": lambda r, n, s: np.sqrt(r) * n + 25_600 * np.log10(s),
    "f3": lambda r, n, s: r * n + 6.86e6 * np.log10(s),
    "f4": lambda r, n, s: r * np.sqrt(n) + 5.3e5 * np.log10(s),
}


class Fitted(Scheduler):
    """The gang of the lowest fitted function of estimate, GPUs and time of arrival that fits.

    Source: D. Carastan-Santos and R. Y. de Camargo, "Obtaining dynamic scheduling policies with
    simulation and machine learning", SC 2017, with the coefficients that RLScheduler (SC 2020)
    uses. Arguments of logarithms are at least 0.1, as there.

    Args:
        function: ``"f1"`` to ``"f4"``.
    """

    def __init__(self, *, function: str = "f1"):
        if function not in FUNCTIONS:
            raise ValueError(f"fitted: function = {function!r}; use one of {', '.join(FUNCTIONS)}")
        self.function = FUNCTIONS[function]

    def plan(self, view: ClusterView) -> Plan | None:
        """Start the gang of the lowest value that fits."""
        run = np.maximum(view.pending["estimate_s"], 0.1)
        arrival = np.maximum(view.pending["arrival_s"], 0.1)
        keys = self.function(run, view.pending["gpus"].astype(float), arrival)
        return next_start(view, self.placement, keys)
