"""llm-d's endpoint picker: a weighted sum of scorers in [0, 1], the highest total wins."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ..policy import Observation
from .router import Router, check_at_least

Array = NDArray[np.floating]


def fewest(counts: Array, feasible: NDArray[np.bool_]) -> Array:
    """Queue and running-requests scorers: (max - x) / (max - min), and 1 if all are equal.

    Shapes: all (n, C); minimum and maximum over the feasible candidates. Source: Gateway API
    Inference Extension, ``scorer/queue.go`` and ``running.go``: 10, 5, 0 -> 0, 0.5, 1.
    """
    high = np.where(feasible, counts, -np.inf).max(axis=1, keepdims=True)
    low = np.where(feasible, counts, np.inf).min(axis=1, keepdims=True)
    span = high - low
    return np.where(span > 0, (high - counts) / np.where(span > 0, span, 1.0), 1.0)


def active_requests(counts: Array, feasible: NDArray[np.bool_]) -> Array:
    """Active-request scorer: (max - x) / max, and 1 if nothing is in flight.

    Source: llm-d ``scorer/active_request.go``: 3, 0, 6 -> 0.5, 1, 0. (The source's maximum
    runs over all known endpoints, here over the feasible ones.)
    """
    high = np.where(feasible, counts, 0.0).max(axis=1, keepdims=True)
    return np.where(high > 0, (high - counts) / np.where(high > 0, high, 1.0), 1.0)


def load_aware(waiting: Array, threshold: float = 128) -> Array:
    """Load-aware scorer: 0.5 for an empty queue, falling to 0 at ``threshold`` requests.

    Source: llm-d ``scorer/load_aware.go``: 2, 0, 15 with threshold 10 -> 0.4, 0.5, 0.
    """
    return 0.5 * (1.0 - np.minimum(waiting, threshold) / threshold)


def token_load(tokens: Array, threshold: float = 4_194_304) -> Array:
    """Token-load scorer: 1 - min(1, tokens in flight / threshold).

    Source: llm-d ``scorer/tokenload``; the default is 128 requests of 32 Ki tokens.
    """
    return 1.0 - np.minimum(tokens / threshold, 1.0)


class LLMD(Router):
    """Weighted scorers; defaults prefix 2, queue 1, KV 1. Ties are broken at random.

    Source: llm-d inference scheduler (endpoint picker) with the scorers of the Gateway API
    Inference Extension. A weight of 0 leaves a scorer out:

    ========== ===================== =========================================================
    option     scorer                score of a candidate
    ========== ===================== =========================================================
    prefix     prefix-cache          matched share of the prompt's blocks
    queue      queue                 (max - waiting) / (max - min), 1 if all equal
    kv         kv-cache-utilization  1 - share of KV blocks in use
    running    running-requests      (max - running) / (max - min), 1 if all equal
    active     active-request        (max - in flight) / max
    tokens     token-load            1 - tokens in flight / token_threshold
    load       load-aware            0.5 (1 - waiting / queue_threshold)
    session    session-affinity      1 where the session's last request went
    ========== ===================== =========================================================

    Prefix matches are those of the approximate scorer, which remembers what was sent; its
    index has an LRU bound, ours (``prefix_sent``) has none. ``precise=True`` uses what the
    replica reports as cached instead, as the precise scorer does with KV events.

    Other mixtures by name, for example prefix 4 to queue 3 as in BLIS, a simulator with the scorers
    of llm-d (docs/guide/routing.md): ``routing/llm-d?weights=prefix:4,queue:3``. (BLIS adds
    running and in-flight requests to its queue depth: ``active`` is the nearer of ours.)

    Args:
        prefix, queue, kv, running, active, tokens, load, session: weights, 0 or more.
        weights: all weights at once, by scorer; what it does not name is left out.
        precise: match reported cache contents instead of prompts sent.
        queue_threshold: requests, for ``load``.
        token_threshold: tokens, for ``tokens``.
    """

    def __init__(
        self,
        *,
        prefix: float = 2.0,
        queue: float = 1.0,
        kv: float = 1.0,
        running: float = 0.0,
        active: float = 0.0,
        tokens: float = 0.0,
        load: float = 0.0,
        session: float = 0.0,
        weights: Mapping[str, float] | None = None,
        precise: bool = False,
        queue_threshold: float = 128,
        token_threshold: float = 4_194_304,
    ):
        single = {
            "prefix": prefix,
            "queue": queue,
            "kv": kv,
            "running": running,
            "active": active,
            "tokens": tokens,
            "load": load,
            "session": session,
        }
        chosen = single if weights is None else weights
        for name, weight in chosen.items():
            if name not in single:
                known = ", ".join(single)
                raise ValueError(f"llm-d: weights has no scorer {name!r}; it accepts {known}")
            check_at_least("llm-d", name, weight, 0.0)
        self.weights = {name: weight for name, weight in chosen.items() if weight > 0}
        self.prefix_column = "prefix_match" if precise else "prefix_sent"
        self.queue_threshold = check_at_least("llm-d", "queue_threshold", queue_threshold, 1)
        self.token_threshold = check_at_least("llm-d", "token_threshold", token_threshold, 1)

    def score(self, observation: Observation) -> NDArray[np.floating]:
        """Return the weighted sum, plus less than 1e-9 to break ties at random."""
        feasible = self.feasible(observation)
        total = 1e-9 * self.rng.random(feasible.shape)
        for name, weight in self.weights.items():
            total += weight * self.score_by(name, observation, feasible)
        return total

    def score_by(self, name: str, observation: Observation, feasible: NDArray[np.bool_]) -> Array:
        """Return the scores of one scorer, shape (n, C)."""

        def column(of: str) -> Array:
            return self.read(observation, "candidates", f"route.{of}")

        match name:
            case "prefix":
                return column(self.prefix_column)
            case "queue":
                return fewest(column("waiting"), feasible)
            case "kv":
                return 1.0 - column("kv_usage")
            case "running":
                return fewest(column("running"), feasible)
            case "active":
                return active_requests(column("in_flight"), feasible)
            case "tokens":
                return token_load(column("in_flight_tokens"), self.token_threshold)
            case "load":
                return load_aware(column("waiting"), self.queue_threshold)
            case _:
                return column("session_last")
