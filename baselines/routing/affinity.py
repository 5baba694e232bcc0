"""Routers that return to where the cache should be: by session, by hash or by prefix."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..policy import Observation
from .router import Router, check_at_least
from .sessions import loads


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


class ConsistentHash(Router):
    """The replica that the session's hash falls to, whatever its load.

    Source: vllm-router's ``consistent_hash``: a ring of 160 points per worker, asked for the key of
    the request (header ``X-Session-ID``, then other headers and body fields). A request without a
    key is hashed by its body, which spreads single requests evenly: here a replica at random. A
    worker that cannot take the request is replaced by the first that can.

    The environment hashes sessions by rendezvous (Thaler and Ravishankar, 1998). That gives a
    session another home than the ring does, and moves as few sessions when a replica leaves.
    """

    def score(self, observation: Observation) -> NDArray[np.floating]:
        """Return 1 for the home; where there is none, independent uniform numbers."""
        home = self.column(observation, "candidates", "route.session_home")
        known = home.any(axis=1, keepdims=True)
        return np.where(known, home, self.rng.random(home.shape))


class StickyLeastLoaded(Router):
    """A session stays where its last request went; a new one goes to the lowest load.

    Source: ``sticky_least_loaded`` of SkyRL (pull request 1791) and prime-rl (3563, its default),
    proposed for vllm-router (235): a new session takes the worker with the fewest active sessions,
    ties by rendezvous hash, and keeps it until it is released. Nothing tells a router here when a
    session has ended, so load is requests in flight; ties go to the session's hash, then to the
    lowest index.
    """

    def score(self, observation: Observation) -> NDArray[np.floating]:
        """Rank by last replica, then by requests in flight (in [0, 1)), then by home."""
        last = self.column(observation, "candidates", "route.session_last").astype(np.float64)
        home = self.column(observation, "candidates", "route.session_home")
        load = self.column(observation, "candidates", "route.in_flight")
        return 2.0 * last - load + 1e-7 * home  # loads of up to 10,000 requests differ by more


class CacheAware(Router):
    """The longest match with what was sent there, unless load is uneven; else the lowest load.

    Source: ``cache_aware`` of vllm-router and of SGLang's model gateway. Load, requests in flight
    as the router counts them, is uneven where both

        max - min > balance_abs_threshold   and   max > balance_rel_threshold * min.

    Then the least loaded takes the request. Otherwise the one with the longest match with the
    prompts it was sent takes it, if more than ``cache_threshold`` of the prompt matches; else the
    least loaded again (SGLang's first versions: the smallest tree). Defaults are those of
    vllm-router 0.1.17; NeMo-RL settles on 32 and 1.5, after 4 and 1.1 had cost it half its hits.

    What differs: the source matches characters, and its trees are cut back to a size at intervals;
    here blocks of the prompt are matched and nothing is forgotten. Of several longest matches the
    source takes the one that its tree met last, here the least loaded. Load is compared over the
    feasible replicas.

    Args:
        cache_threshold: share of the prompt, at most 1.
        balance_abs_threshold: requests.
        balance_rel_threshold: ratio.
    """

    def __init__(
        self,
        *,
        cache_threshold: float = 0.3,
        balance_abs_threshold: float = 64,
        balance_rel_threshold: float = 1.5,
    ):
        owner = "cache-aware"
        self.cache_threshold = check_at_least(owner, "cache_threshold", cache_threshold, 0.0)
        if cache_threshold > 1:
            raise ValueError(f"{owner}: cache_threshold = {cache_threshold!r} must be at most 1")
        self.absolute = check_at_least(owner, "balance_abs_threshold", balance_abs_threshold, 0.0)
        self.relative = check_at_least(owner, "balance_rel_threshold", balance_rel_threshold, 0.0)

    def score(self, observation: Observation) -> NDArray[np.floating]:
        """Rank by match where that decides, then by requests in flight."""
        feasible = self.feasible(observation)
        load, least, most = loads(self, observation)
        sent = self.column(observation, "candidates", "route.prefix_sent")
        uneven = (most - least > self.absolute) & (most > self.relative * least)
        longest = np.where(feasible, sent, 0.0).max(axis=1, keepdims=True)
        by_match = ~uneven & (longest > self.cache_threshold)
        return 1e6 * (by_match & (sent == longest)) - load


class KVAware(Router):
    """The longest prefix that replicas report as cached; without any, the lowest load.

    Source: ``kv_aware`` of vllm-router, which follows the KV events of its workers: the longest
    run of cached blocks from the start of the prompt wins (blocks A, B, D of A B C D count 2);
    where nobody has one, the fewest requests. It also counts for two seconds what it has just
    sent, which here a report does not know. Equal matches go to the lower load, in the source to
    the last of them.
    """

    def score(self, observation: Observation) -> NDArray[np.floating]:
        """Rank by reported match, then by requests in flight."""
        load = self.column(observation, "candidates", "route.in_flight")
        match = self.column(observation, "candidates", "route.prefix_match")
        longest = np.where(self.feasible(observation), match, 0.0).max(axis=1, keepdims=True)
        return ((match == longest) & (longest > 0)) - load
