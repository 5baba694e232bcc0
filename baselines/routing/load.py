"""Routers that follow load: least requests, least tokens, power of two choices.

They compare squashed columns directly: squashing is monotone, so the order is that of the raw
counts, and not undoing it keeps the most used baselines the fastest.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..policy import Observation
from .router import Router, check_at_least


class LeastRequests(Router):
    """The replica with the fewest requests in flight, running and queued together.

    Source: least outstanding requests, as nginx's ``least_conn``, llm-d's
    ``active-request-scorer`` and BLIS's least-loaded router count them: every request that
    this router sent and that has not finished. The count is the router's own and never stale.

    Running requests must count. A continuous batch admits up to hundreds of sequences, so at
    moderate load every queue is empty although decode steps differ widely; see
    :class:`LeastQueued` for what happens to a router that looks at the queues only.
    """

    def score(self, observation: Observation) -> NDArray[np.floating]:
        """Return minus the requests in flight (squashed)."""
        return -self.column(observation, "candidates", "route.in_flight")


class LeastQueued(Router):
    """The replica with the fewest *queued* requests. A negative example: do not use it.

    Source: Vidur's "least outstanding requests" global scheduler, which counts only requests
    that are not yet scheduled. With empty queues all replicas tie and the first one takes
    everything, until its batch is full: on 10,000 requests at 24/s over 4 replicas its median
    time per output token was 43 ms, against 24 ms for round robin (measured with Vidur itself;
    that run is ``W8_10k_r24``).
    """

    def score(self, observation: Observation) -> NDArray[np.floating]:
        """Return minus the reported queue length (squashed)."""
        return -self.column(observation, "candidates", "route.waiting")


class LeastTokens(Router):
    """The replica with the fewest tokens in flight: prompts plus estimated outputs.

    Source: splitwise-sim's token-JSQ and llm-d's ``token-load-scorer``. Those know prompt
    tokens (and decay what is done); here an estimate of the output is added, and a request
    counts in full until it finishes.
    """

    def score(self, observation: Observation) -> NDArray[np.floating]:
        """Return minus the tokens in flight (squashed)."""
        return -self.column(observation, "candidates", "route.in_flight_tokens")


class PowerOfTwo(Router):
    """Of d replicas drawn at random, the one with the fewest requests in flight.

    Source: M. Mitzenmacher, "The power of two choices in randomized load balancing", IEEE
    TPDS 12(10), 2001; Envoy's default (``choice_count`` 2). Drawn without replacement among
    the feasible replicas, so with R distinct loads the replica of rank k (1 = least loaded)
    is taken with probability (R - k) / (R (R - 1) / 2) for d = 2.
    """

    def __init__(self, *, choices: int = 2):
        self.choices = int(check_at_least("power-of-two", "choices", choices, 1))

    def score(self, observation: Observation) -> NDArray[np.floating]:
        """Return minus the load of the drawn replicas, and less for all others."""
        load = self.column(observation, "candidates", "route.in_flight")
        lot = np.where(self.feasible(observation), self.rng.random(load.shape), -1.0)
        others = np.argsort(-lot, axis=1)[:, self.choices :]
        score = -load
        np.put_along_axis(score, others, -2.0, axis=1)  # loads lie in [0, 1)
        return score
