"""Routers: which replica answers this request? Every one sees observations only."""

from functools import partial

from ..policy import Factory
from .admission import EarlyReject, ShedSaturated, TokenBucket
from .affinity import (
    CacheAware,
    ConsistentHash,
    KVAware,
    PrefixAware,
    SessionAffinity,
    StickyLeastLoaded,
)
from .dynamo import Dynamo
from .gateway import VTC, GatewayQueue
from .llmd import LLMD
from .llumnix import LlumnixDispatch
from .load import LeastQueued, LeastRequests, LeastTokens, PowerOfTwo
from .lora import LoRAAffinity
from .oblivious import Random, RoundRobin, WeightedRoundRobin
from .predictive import CapabilityAware, PredictedLatency
from .sessions import LengthAware, SessionGate, SessionMargin
from .ttft import PredictedTTFT, PredictedTTFTProduct, PrefillAndWork

BASELINES: dict[str, Factory] = {
    "random": Random,
    "round-robin": RoundRobin,
    "weighted-round-robin": WeightedRoundRobin,
    "least-requests": LeastRequests,
    "least-queued": LeastQueued,
    "least-tokens": LeastTokens,
    "power-of-two": PowerOfTwo,
    "session-affinity": SessionAffinity,
    "consistent-hash": ConsistentHash,
    "sticky-least-loaded": StickyLeastLoaded,
    "session-margin": SessionMargin,
    "session-gate": SessionGate,
    "length-aware": LengthAware,
    "prefix-aware": PrefixAware,
    "cache-aware": CacheAware,
    "kv-aware": KVAware,
    "llm-d": LLMD,
    "llumnix": LlumnixDispatch,
    "dynamo": Dynamo,
    "dynamo-lmetric": partial(Dynamo, policy="lmetric"),
    "capability-aware": CapabilityAware,
    "predicted-latency": PredictedLatency,
    "predicted-ttft": PredictedTTFT,
    "predicted-ttft-product": PredictedTTFTProduct,
    "prefill-and-work": PrefillAndWork,
    "lora-affinity": LoRAAffinity,
    "shed-saturated": ShedSaturated,
    "early-reject": EarlyReject,
    "token-bucket": TokenBucket,
    "gateway-queue": GatewayQueue,
    "vtc": VTC,
}
