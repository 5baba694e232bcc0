"""Routers that keep a session where it is until that costs too much: those of RL rollouts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..policy import Observation
from .router import Router, check_at_least


class SessionMargin(Router):
    """A session stays while its replica is within a margin of the least loaded, and else moves.

    Source: ``affinity_break_margin`` of verl (pull request 7435), which reports that a margin of 2
    helped all its workloads. Load is requests in flight; a new session goes to the lowest, ties to
    its hash as in ``sticky-least-loaded`` (verl takes the first).

    Args:
        margin: requests in flight more than at the least loaded replica.
    """

    def __init__(self, *, margin: float = 2):
        self.margin = check_at_least("session-margin", "margin", margin, 0.0)

    def score(self, observation: Observation) -> NDArray[np.floating]:
        """Rank by last replica where it may be kept, then by requests in flight, then by home."""
        load, least, _ = loads(self, observation)
        last = self.column(observation, "candidates", "route.session_last") > 0
        home = self.column(observation, "candidates", "route.session_home")
        return 1e6 * (last & (load - least <= self.margin)) - load + 0.5 * home


class SessionGate(Router):
    """Sessions stay while load is even over all replicas; while it is not, each goes to the least.

    Source: ``balance_abs_threshold`` and ``balance_rel_threshold`` of verl's load balancer (pull
    request 6533), SGLang's rule for uneven load as in ``cache-aware``:

        max - min > balance_abs_threshold   and   max > balance_rel_threshold * min.

    It reports steps 18 to 20 % slower at a threshold of 4: one crowded replica lets sessions leave
    the others, too.

    Args:
        balance_abs_threshold: requests in flight.
        balance_rel_threshold: ratio.
    """

    def __init__(self, *, balance_abs_threshold: float = 4, balance_rel_threshold: float = 1.0):
        owner = "session-gate"
        self.absolute = check_at_least(owner, "balance_abs_threshold", balance_abs_threshold, 0.0)
        self.relative = check_at_least(owner, "balance_rel_threshold", balance_rel_threshold, 0.0)

    def score(self, observation: Observation) -> NDArray[np.floating]:
        """Rank by last replica while load is even, then by requests in flight, then by home."""
        load, least, most = loads(self, observation)
        uneven = (most - least > self.absolute) & (most > self.relative * least)
        last = self.column(observation, "candidates", "route.session_last") > 0
        home = self.column(observation, "candidates", "route.session_home")
        return 1e6 * (last & ~uneven) - load + 0.5 * home


class LengthAware(Router):
    """A session stays unless another replica has so much less to compute that moving pays.

    Load is seconds of compute time in flight, by the estimated length of each answer, instead of
    a number of requests. A session moves where its own prefill there and the work that is there
    come to less than the work at its replica, by more than a margin. Source: length-aware
    schedulers of rollouts (RollPacker, arXiv:2509.21009; Seer, arXiv:2511.14617), which place by
    expected length; the rule of moving is this package's.

    Args:
        margin_s: seconds of compute time by which moving has to pay.
    """

    def __init__(self, *, margin_s: float = 2.0):
        self.margin_s = check_at_least("length-aware", "margin_s", margin_s, 0.0)

    def score(self, observation: Observation) -> NDArray[np.floating]:
        """Return minus the seconds of work and own prefill, less the margin for the last."""
        work_s = self.read(observation, "candidates", "route.work_s")
        prefill_s = self.read(observation, "candidates", "route.prefill_s")
        last = self.column(observation, "candidates", "route.session_last") > 0
        return self.margin_s * last - work_s - prefill_s


def loads(
    router: Router, observation: Observation
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the requests in flight (n, C), and the least and most of feasible replicas (n, 1)."""
    feasible = router.feasible(observation)
    load = router.read(observation, "candidates", "route.in_flight").round()
    least = np.where(feasible, load, np.inf).min(axis=1, keepdims=True)
    most = np.where(feasible, load, 0.0).max(axis=1, keepdims=True)
    return load, least, most
