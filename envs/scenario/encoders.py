"""The ``[encoders]`` table of a scenario: encode replicas, which encode images for all replicas."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..hardware import catalogue
from ..hardware.catalogue import GPU
from ..perf import kv_blocks
from ..perf.serving.kv_transfer import CONNECTORS
from ..workload.requests.source import Workload
from .checks import ScenarioError, check_type, check_values, checked_table, refuse_unknown
from .deployments import Replica

MOST_ENCODERS = 1024
MOST_CACHED = 2**24


@dataclass(frozen=True)
class Encoders:
    """Encode replicas, which are alike; none by default: every replica encodes its own images.

    Attributes:
        count: how many.
        gpu: one for each of them.
        connector: what sends embeddings (:data:`gpuyard.envs.perf.serving.kv_transfer.CONNECTORS`).
        cache_tokens: visual tokens that each keeps encoded; 0: none.
    """

    count: int = field(default=0, metadata={"range": (1, MOST_ENCODERS)})
    gpu: GPU | None = None
    connector: str = field(default="nixl", metadata={"choices": CONNECTORS})
    cache_tokens: int = field(default=0, metadata={"range": (0, MOST_CACHED)})


def read_encoders(table: Any, gpus: Mapping[str, GPU]) -> Encoders:
    """Return the encode replicas that ``[encoders]`` describes; None: there are none.

    Args:
        table: the table.
        gpus: the scenario's own.

    Raises:
        ScenarioError: naming the field, value and remedy.
    """
    if table is None:
        return Encoders()
    row = {"count": 1, **checked_table(table, "encoders")}
    refuse_unknown(row, Encoders.__dataclass_fields__, "encoders")
    check_values(Encoders, row, "encoders")
    if "gpu" not in row:
        raise ScenarioError("encoders.gpu is missing; give a name of the catalogue")
    check_type("encoders.gpu", row["gpu"], "L40S")
    try:
        gpu = gpus.get(row["gpu"]) or catalogue.gpu(row["gpu"])
    except ValueError as error:
        raise ScenarioError(f"encoders: {error}") from error
    return Encoders(**{**row, "gpu": gpu})


def without_encoders(
    replicas: tuple[Replica, ...], encoders: Encoders, workload: Workload
) -> tuple[Replica, ...]:
    """Return the replicas without encoders of their own, whose memory is for the KV cache.

    Nothing changes where there are no encode replicas, nor a number of blocks that is given.

    Raises:
        ScenarioError: encode replicas for requests without images, with room for none, or for
            replicas of several models.
    """
    if encoders.count == 0:
        return replicas
    images = workload.images
    if images is None:
        raise ScenarioError(
            f"encoders.count = {encoders.count}: requests bring no images; give workload.images, "
            "or leave out [encoders]"
        )
    if 0 < encoders.cache_tokens < max(images.tokens):
        raise ScenarioError(
            f"encoders.cache_tokens = {encoders.cache_tokens} must be 0 or hold the largest image, "
            f"{max(images.tokens)} visual tokens"
        )
    found = []
    for number, replica in enumerate(replicas):
        deployment = replica.deployment
        _check(deployment.model.name, deployment.encoder_cache_tokens, images.model, number)
        bare = replace(deployment, model=replace(deployment.model, vision_params=0.0))
        blocks = replica.kv_blocks
        if blocks == kv_blocks(deployment) // deployment.own_ranks:
            blocks = kv_blocks(bare) // deployment.own_ranks
        found.append(replace(replica, deployment=bare, kv_blocks=blocks))
    return tuple(found)


def _check(name: str, cache_tokens: int, wanted: str, number: int) -> None:
    """Refuse a replica of another model, or one with an encoder cache of its own."""
    if name != wanted:
        raise ScenarioError(
            f"replicas[{number}].model = {name!r} must be workload.images.model = {wanted!r}: "
            "encode replicas make embeddings of one model; serve it, or leave out [encoders]"
        )
    if cache_tokens:
        raise ScenarioError(
            f"replicas[{number}].encoder_cache_tokens = {cache_tokens}: encode replicas encode; "
            "give encoders.cache_tokens, or leave out [encoders]"
        )
