"""Routers that return to where the cache should be: session affinity, prefix matching."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..policy import Observation
from .router import Router


class SessionAffinity(Router):
    """The session's home by consistent hashing; without one, the replica with the lowest load.

    Source: the ``session`` routing logic of vLLM production-stack: a hash ring over
    session ids; requests without a session go to the endpoint with the lowest request rate.
    The environment hashes by rendezvous, which moves as few sessions as a ring does. If the
    home is not feasible, the session stays where its last request went, else it goes to the
    lowest load (the ring takes the next node). Load is requests in flight, which reacts faster
    than a measured rate.
    """

    def score(self, observation: Observation) -> NDArray[np.floating]:
        """Rank by home, then by last replica, then by requests in flight (in [0, 1))."""
        home = self.column(observation, "candidates", "route.session_home")
        last = self.column(observation, "candidates", "route.session_last")
        return 4.0 * home + 2.0 * last - self.column(observation, "candidates", "route.in_flight")


class PrefixAware(Router):
    """The replica that was sent the longest prefix of this prompt.

    Source: the ``prefixaware`` routing logic of vLLM production-stack: a hash trie over the
    prompts that were sent, without eviction, so it may point to blocks that are long gone;
    among equal matches, and for prompts without any, a random endpoint. The trie's chunks are
    128 characters, the environment's are whole prefix blocks.

    Args:
        ties: ``"random"`` as in the source, or ``"least-requests"``: fewest in flight.
    """

    def __init__(self, *, ties: Literal["random", "least-requests"] = "random"):
        if ties not in ("random", "least-requests"):
            raise ValueError(f"prefix-aware: ties = {ties!r} must be 'random' or 'least-requests'")
        self.ties = ties

    def score(self, observation: Observation) -> NDArray[np.floating]:
        """Return 1 for the longest match, 0 for others, plus less than 1 to break ties."""
        sent = self.column(observation, "candidates", "route.prefix_sent")
        sent = np.where(self.feasible(observation), sent, -1.0)
        longest = sent == sent.max(axis=1, keepdims=True)
        if self.ties == "random":
            return longest + self.rng.random(sent.shape)
        return longest - self.column(observation, "candidates", "route.in_flight")
