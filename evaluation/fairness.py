"""How evenly clients were served: service over time, and its greatest difference.

A prompt counts with its first token, each output token as it comes, evenly from the first to the
last, by the weights of the virtual token counter (1 and 2). Source: Sheng et al., "Fairness in
serving large language models" (OSDI 2024), section 5.1, whose measure is the difference of service
between clients that have more to ask than they get.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .metrics import Table

PROMPT_WEIGHT, OUTPUT_WEIGHT = 1.0, 2.0


def service(requests: Table, times_s: ArrayLike, num_clients: int) -> NDArray[np.float64]:
    """Return what each client had been served by each moment, tokens, (T, C).

    Args:
        requests: the table of an episode whose scenario has clients.
        times_s: (T,) moments, seconds.
        num_clients: C.
    """
    moments = np.asarray(times_s, np.float64)[:, None]
    first_s, finish_s = requests["first_token_s"], requests["finish_s"]
    tokens = requests["output_tokens"].astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        part = (moments - first_s) / (finish_s - first_s)
        out = np.where(moments >= finish_s, tokens, 1.0 + np.clip(part, 0, 1) * (tokens - 1.0))
        amount = PROMPT_WEIGHT * requests["prompt_tokens"] + OUTPUT_WEIGHT * out
        amount = np.where(moments >= first_s, amount, 0.0)
    is_of = requests["client"][:, None] == np.arange(num_clients)
    return np.nan_to_num(amount) @ is_of


def service_gap_tokens(requests: Table, num_clients: int, moments: int = 256) -> float:
    """Return the greatest difference while requests came, looked at so many times."""
    arrival_s = requests["arrival_s"]
    times_s = np.linspace(arrival_s.min(), arrival_s.max(), moments)
    return greatest_difference(requests, times_s, num_clients)


def greatest_difference(requests: Table, times_s: ArrayLike, num_clients: int) -> float:
    """Return the greatest difference of service since the first moment, of two clients, tokens."""
    served = service(requests, times_s, num_clients)
    since = served - served[0]
    return float((since.max(axis=1) - since.min(axis=1)).max())
