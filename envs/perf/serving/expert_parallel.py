"""Experts spread over many ranks: tokens go to them and come back (DeepEP's dispatch and combine).

m tokens of each of R ranks, g of them on each of N nodes, go to k experts each; a token has H
elements, dispatched in FP8 with a 32-bit scale for every 128, combined in BF16::

    t = start + max(bytes over the NIC / (nic line), bytes over NVLink / (nvlink link))

Low latency, for decode steps, sends a copy to every expert: ``m k b (N-1)/N`` over the NIC and
``m k b / N`` inside. High throughput, for prompts, sends one to every node with an expert of the
token, where it is forwarded to the ranks: ``m b v(N) (N-1)/N`` and ``m b v(R) (g-1)/g``, with
``v(n) = n (1 - (1 - 1/n)^k)`` of n places that k random experts hit. Where a model limits a token
to some groups of experts, v(N) is too large by up to a half on 8 nodes and more.

Two-batch overlap: one half of the batch computes while the other's tokens are on their way, so a
layer takes ``2 max(compute, exchange)`` of a half. In high throughput the exchange keeps 24 SMs
from computing; in low latency it takes all of them while it packs and unpacks, as long as it takes
on one node, and none while bytes are in flight. Attention, which a table by tokens does not know,
hides nothing here.

Sources: DeepEP README (kernels, SMs, fewer than 256 tokens a rank in low latency), DeepSeek
profile-data README and LMSYS, "Deploying DeepSeek with PD disaggregation and large-scale expert
parallelism" (overlap); constants: ``expert_parallel.toml``.
"""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .deployment import Deployment

LOW_LATENCY_TOKENS = 256
"""Tokens of a rank up to which a step exchanges them in low latency."""
COMMUNICATION_SMS = 24
"""SMs of the high-throughput kernels. Source: DeepEP README, ``Buffer.set_num_sms(24)``."""
PASSES = ("dispatch", "combine")


def token_bytes(hidden: int) -> dict[str, float]:
    """Return bytes of one token in each pass."""
    return {"dispatch": hidden * (1 + 4 / 128), "combine": 2.0 * hidden}


def exchange_s(
    deployment: Deployment, tokens: ArrayLike, low_latency: ArrayLike
) -> NDArray[np.float64]:
    """Return seconds of dispatch and combine of one layer, the busiest rank's.

    Args:
        deployment: the replica.
        tokens: of each rank.
        low_latency: bool, by which kernels; broadcast with ``tokens``, whose shape the result has.
    """
    where = deployment.group(deployment.stage_gpus)
    quick = np.asarray(low_latency, bool)
    return sum(
        (
            np.where(
                quick,
                low_latency_s(deployment, tokens, step, where.nodes),
                high_throughput_s(deployment, tokens, step, where.local, where.nodes),
            )
            for step in PASSES
        ),
        np.zeros(np.shape(tokens)),
    )


def low_latency_s(
    deployment: Deployment, tokens: ArrayLike, step: str, nodes: int
) -> NDArray[np.float64]:
    """Return seconds of one pass in low latency between ranks on so many nodes."""
    size = _bytes(deployment, tokens, step) * deployment.model.active_experts
    return _pass_s(deployment, "low_latency", step, size * (nodes - 1) / nodes, size / nodes, nodes)


def high_throughput_s(
    deployment: Deployment, tokens: ArrayLike, step: str, local: int, nodes: int
) -> NDArray[np.float64]:
    """Return seconds of one pass in high throughput, ``local`` ranks on each of ``nodes`` nodes."""
    size, k = _bytes(deployment, tokens, step), deployment.model.active_experts
    nic = size * places_hit(nodes, k) * (nodes - 1) / nodes
    inside = size * places_hit(local * nodes, k) * (local - 1) / local
    return _pass_s(deployment, "high_throughput", step, nic, inside, nodes)


def packing_s(deployment: Deployment, tokens: ArrayLike) -> NDArray[np.float64]:
    """Return seconds of dispatch and combine in low latency in which they take all SMs."""
    dispatch, combine = (low_latency_s(deployment, tokens, step, 1) for step in PASSES)
    return dispatch + combine


def slowdown(deployment: Deployment) -> float:
    """Return how much longer kernels take beside those of high throughput."""
    return deployment.gpu.sms / (deployment.gpu.sms - COMMUNICATION_SMS)


def _bytes(deployment: Deployment, tokens: ArrayLike, step: str) -> NDArray[np.float64]:
    """Return bytes of the busiest rank's tokens, one copy of each."""
    many = np.asarray(tokens, np.float64) * deployment.expert_imbalance
    return many * token_bytes(deployment.model.hidden)[step]


def places_hit(places: int, experts: int) -> float:
    """Return how many of ``places`` as many random experts hit: ``n (1 - (1 - 1/n)^k)``."""
    return float(places * (1 - (1 - 1 / places) ** experts))


def _pass_s(
    d: Deployment,
    mode: str,
    step: str,
    nic: NDArray[np.float64],
    inside: NDArray[np.float64],
    nodes: int,
) -> NDArray[np.float64]:
    row, several = _table()[mode][step], int(nodes > 1)
    nic_s = nic / (row["nic"] * d.gpu.nic_bytes_per_s)
    inside_s = inside / (row["nvlink"][several] * d.gpu.scale_up_bytes_per_s)
    return row["start_us"][several] * 1e-6 + np.maximum(nic_s, inside_s)


@cache
def _table() -> dict[str, Any]:
    with (Path(__file__).parent / "expert_parallel.toml").open("rb") as file:
        return tomllib.load(file)
