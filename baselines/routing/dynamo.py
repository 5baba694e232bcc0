"""Dynamo's KV router: prefill work that the cache does not save, plus decode load, in blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from ..policy import Observation
from .router import Router, check_at_least

if TYPE_CHECKING:
    from gpuyard.envs.scenario import Scenario

Array = NDArray[np.floating]


def kv_cost(
    prefill_blocks: Array,
    overlap_blocks: Array | float,
    decode_blocks: Array,
    *,
    prefill_load_scale: float = 1.0,
    overlap_credit: Array | float = 1.0,
) -> Array:
    """Cost of each worker in blocks; the lowest wins.

    cost = prefill_load_scale * max(prefill - overlap_credit * overlap, 0) + decode. With
    ``overlap_blocks=0`` this is the older documented rule, cost = overlap_score_weight *
    prefill_blocks + decode_blocks, whose worked example is (8, 10), (5, 5), (2, 9) -> 18, 10,
    11: worker 2.

    Args:
        prefill_blocks: active prefill plus this request's prompt.
        overlap_blocks: blocks of the prompt cached at the worker.
        decode_blocks: active decode plus this request's blocks.
        prefill_load_scale: weight of the prefill term.
        overlap_credit: share of the overlap that is deducted.
    """
    adjusted = np.maximum(prefill_blocks - overlap_credit * overlap_blocks, 0.0)
    return prefill_load_scale * adjusted + decode_blocks


def lmetric_cost(
    prefill_blocks: Array,
    overlap_blocks: Array | float,
    decode_blocks: Array,
    *,
    overlap_credit: Array | float = 1.0,
) -> Array:
    """Cost of policy ``lmetric``: adjusted prefill times (decode + 1), no weight to tune."""
    adjusted = np.maximum(prefill_blocks - overlap_credit * overlap_blocks, 0.0)
    return adjusted * (decode_blocks + 1.0)


def preferred_multiplier(weight: float) -> float:
    """Return what the cost of a worker with a preferred taint of this weight is multiplied by.

    exp(-tanh(weight)), from 1 at a weight of 0 to 0.467 at 1. Source: Dynamo, ``kv-router``
    protocols, ``preferred_taint_multiplier``.
    """
    return float(np.exp(-np.tanh(weight)))


def normalised(cost: Array, feasible: NDArray[np.bool_]) -> Array:
    """Costs over their range among the feasible candidates, as softmax logits; (n, C)."""
    high = np.where(feasible, cost, -np.inf).max(axis=1, keepdims=True)
    low = np.where(feasible, cost, np.inf).min(axis=1, keepdims=True)
    span = high - low
    return np.where(span > 0, (cost - low) / np.where(span > 0, span, 1.0), 0.0)


class Dynamo(Router):
    """The lowest cost of prefill and decode blocks, or a softmax sample of it.

    Source: Dynamo's documentation "KV cache routing" and ``kv-router`` scheduler (1.x), see
    :func:`kv_cost` and :func:`lmetric_cost`. With temperature T > 0 a worker is drawn with
    probability proportional to exp(-cost / (range of costs * T)).

    What differs. Dynamo tracks active prefill and decode blocks itself, from the requests that
    it sent. Here decode blocks follow the router's own record (``in_flight_tokens``), which
    contains the estimated output in full and counts shared prefixes once per request, while
    prefill is the last report of ``queued_tokens``. Overlap is the reported cache content, as
    with KV events; ``kv_events=False`` takes what was sent (Dynamo's approximate mode, without
    its time to live). Host, disk and shared cache tiers are not modelled. Ties go to the
    lowest index, not to a random worker.

    Args:
        policy: ``"kv"`` or ``"lmetric"``.
        overlap_credit: blocks deducted per cached block; 0 ignores the cache.
        overlap_credit_decay: the credit is divided by 1 + decay * (active prefill blocks
            above the least loaded worker) / (blocks of this prompt).
        prefill_load_scale: weight of the prefill term of policy ``"kv"``.
        temperature: of the softmax; 0 takes the lowest cost.
        kv_events: overlap from reports (True) or from what was sent (False).
        preferred_weight: 0 to 1, how much less workers cost whose KV transfer stays in the domain
            that a deployment prefers (``kv_transfer_preferred_weight``; Dynamo's documentation has
            0.85 as its example), see :func:`preferred_multiplier`.
    """

    def __init__(
        self,
        *,
        policy: Literal["kv", "lmetric"] = "kv",
        overlap_credit: float = 1.0,
        overlap_credit_decay: float = 0.0,
        prefill_load_scale: float = 1.0,
        temperature: float = 0.0,
        kv_events: bool = True,
        preferred_weight: float = 0.85,
    ):
        if policy not in ("kv", "lmetric"):
            raise ValueError(f"dynamo: policy = {policy!r} must be 'kv' or 'lmetric'")
        self.policy = policy
        self.overlap_credit = check_at_least("dynamo", "overlap_credit", overlap_credit, 0.0)
        self.decay = check_at_least("dynamo", "overlap_credit_decay", overlap_credit_decay, 0.0)
        self.scale = check_at_least("dynamo", "prefill_load_scale", prefill_load_scale, 0.0)
        self.temperature = check_at_least("dynamo", "temperature", temperature, 0.0)
        check_at_least("dynamo", "preferred_weight", preferred_weight, 0.0)
        if preferred_weight > 1.0:
            raise ValueError(f"dynamo: preferred_weight = {preferred_weight!r} must be at most 1")
        self.preferred = preferred_multiplier(preferred_weight)
        self.overlap_column = "route.prefix_match" if kv_events else "route.prefix_sent"

    def reset(self, scenario: Scenario, num_envs: int, seed: int = 0) -> None:
        """Learn the block size: tokens become blocks."""
        super().reset(scenario, num_envs, seed)
        self.weighs, self.prefers = self.prefers, False  # those in the domain cost less, no more
        self.block_size = np.array([float(r.deployment.block_size) for r in scenario.replicas])

    def cost(self, observation: Observation) -> Array:
        """Return the cost of each candidate in blocks, shape (n, C)."""
        own = self.read(observation, "candidates", "route.request_blocks")
        block_size = np.ones(own.shape[1])  # rows that are no replica: any size will do
        block_size[: self.num_replicas] = self.block_size
        active = self.read(observation, "candidates", "route.queued_tokens") / block_size
        decode = self.read(observation, "candidates", "route.in_flight_tokens") / block_size
        overlap = self.read(observation, "candidates", self.overlap_column) * own
        credit: Array | float = self.overlap_credit
        if self.decay > 0:
            least = np.where(self.feasible(observation), active, np.inf).min(1, keepdims=True)
            credit = credit / (1.0 + self.decay * (active - least) / np.maximum(own, 1.0))
        if self.policy == "lmetric":
            cost = lmetric_cost(active + own, overlap, decode + own, overlap_credit=credit)
        else:
            cost = kv_cost(
                active + own,
                overlap,
                decode + own,
                prefill_load_scale=self.scale,
                overlap_credit=credit,
            )
        if self.weighs:
            near = self.read(observation, "candidates", "transfer.near") > 0
            cost = np.where(near, self.preferred * cost, cost)
        return cost

    def score(self, observation: Observation) -> NDArray[np.floating]:
        """Return minus the cost, or a Gumbel-perturbed logit: its maximum is a softmax draw."""
        cost = self.cost(observation)
        if self.temperature == 0:
            return -cost
        logits = -normalised(cost, self.feasible(observation)) / self.temperature
        return logits + self.rng.gumbel(size=cost.shape)
