"""What is measured of sessions that answer back: from a session's first arrival to its last token.

Makespan, the time to 90 % of the sessions, tokens per second and GPU and imbalance are counted by
the environment (``info``); see :mod:`gpuyard.envs.engine.serving.rollout`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .metrics import Table, summarise

PERCENTILES = (50, 90, 100)


def session_seconds(requests: Table) -> NDArray[np.float64]:
    """Return how long each session took, float64 (S,), NaN for one that has not ended.

    Args:
        requests: the table of an episode's requests that have arrived; each has a session.
    """
    _, whose = np.unique(requests["session"], return_inverse=True)
    begin_s = np.full(whose.max(initial=-1) + 1, np.inf)
    end_s = np.full(len(begin_s), -np.inf)
    np.minimum.at(begin_s, whose, requests["arrival_s"])
    finish_s = np.where(np.isfinite(requests["finish_s"]), requests["finish_s"], np.inf)
    np.maximum.at(end_s, whose, finish_s)
    return np.where(np.isfinite(end_s), end_s - begin_s, np.nan)


def session_metrics(requests: Table) -> dict[str, float]:
    """Return mean, median, 90th percentile and maximum of the seconds of sessions that ended."""
    seconds = session_seconds(requests)
    return summarise("session", seconds[np.isfinite(seconds)], PERCENTILES, "_s")
