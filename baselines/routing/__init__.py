"""Routers: which replica answers this request? Every one sees observations only."""

from functools import partial

from ..policy import Factory
from .affinity import PrefixAware, SessionAffinity
from .dynamo import Dynamo
from .llmd import LLMD
from .load import LeastQueued, LeastRequests, LeastTokens, PowerOfTwo
from .oblivious import Random, RoundRobin, WeightedRoundRobin
from .predictive import CapabilityAware, PredictedLatency

BASELINES: dict[str, Factory] = {
    "random": Random,
    "round-robin": RoundRobin,
    "weighted-round-robin": WeightedRoundRobin,
    "least-requests": LeastRequests,
    "least-queued": LeastQueued,
    "least-tokens": LeastTokens,
    "power-of-two": PowerOfTwo,
    "session-affinity": SessionAffinity,
    "prefix-aware": PrefixAware,
    "llm-d": LLMD,
    "dynamo": Dynamo,
    "dynamo-lmetric": partial(Dynamo, policy="lmetric"),
    "capability-aware": CapabilityAware,
    "predicted-latency": PredictedLatency,
}
