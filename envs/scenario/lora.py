"""LoRA adapters of a scenario: what they take from the KV cache, and which request names which."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..perf.serving.kv_groups import block_bytes
from ..perf.serving.lora import places_bytes
from ..rules import Lora
from .checks import ScenarioError
from .deployments import Replica


def with_places(replicas: tuple[Replica, ...], lora: Lora) -> tuple[Replica, ...]:
    """Return the replicas with the KV blocks that places for adapters leave.

    Raises:
        ScenarioError: none are left, or a model whose adapters are not known.
    """
    if lora.adapters == 0:
        return replicas
    found = []
    for replica in replicas:
        deployment = replica.deployment
        try:
            taken_bytes = places_bytes(deployment, lora.rank, lora.max_loras)
        except ValueError as error:
            raise ScenarioError(f"{replica.where}: {error}; set lora.adapters = 0") from error
        taken = deployment.dp * math.ceil(taken_bytes / block_bytes(deployment))
        if taken >= replica.kv_blocks:
            raise ScenarioError(
                f"lora.max_loras = {lora.max_loras} adapters of rank {lora.rank} take {taken} of "
                f"the {replica.kv_blocks} KV blocks of {replica.where}; allow fewer, or a "
                "lower rank"
            )
        found.append(replace(replica, kv_blocks=replica.kv_blocks - taken))
    return tuple(found)


def of_sessions(named: NDArray[np.int32], session: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return adapters of which all turns of a session have the one of its first turn.

    Args:
        named: of each request, int32 (N,).
        session: of each request, all of them known.
    """
    _, first, which = np.unique(session, return_index=True, return_inverse=True)
    return named[first[which]]


def draw_adapters(rng: np.random.Generator, lora: Lora, requests: int) -> NDArray[np.int32]:
    """Return the adapter of each request, int32 (N,), -1 for the base model.

    Adapter k has a share in proportion to 1 / (k + 1)^zipf of the requests that name one.
    """
    weights = np.arange(1, lora.adapters + 1, dtype=float) ** -lora.zipf
    drawn = rng.choice(lora.adapters, requests, p=weights / weights.sum())
    return np.where(rng.random(requests) < lora.base_share, -1, drawn).astype(np.int32)
