"""Routers: which replica answers this request? Every one sees observations only."""

from .affinity import PrefixAware, SessionAffinity
from .dynamo import Dynamo
from .llmd import LLMD
from .load import LeastQueued, LeastRequests, LeastTokens, PowerOfTwo
from .oblivious import Random, RoundRobin, WeightedRoundRobin
from .predictive import CapabilityAware, PredictedLatency

__all__ = [
    "LLMD",
    "CapabilityAware",
    "Dynamo",
    "LeastQueued",
    "LeastRequests",
    "LeastTokens",
    "PowerOfTwo",
    "PredictedLatency",
    "PrefixAware",
    "Random",
    "RoundRobin",
    "SessionAffinity",
    "WeightedRoundRobin",
]
