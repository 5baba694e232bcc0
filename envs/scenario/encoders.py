"""The ``[encoders]`` table of a scenario: encode replicas, which encode images for all replicas."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..hardware import catalogue
from ..hardware import encoders as vision
from ..hardware.catalogue import GPU, Model
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


def language_only(models: Mapping[str, Model]) -> dict[str, Model]:
    """Return models without the weights of their vision encoders, which encode replicas have.

    Args:
        models: the scenario's own; those of the catalogue that see images come to them.
    """
    seeing = [name for entry in vision.encoders() for name in entry.models]
    known = {**{name: catalogue.model(name) for name in seeing}, **models}
    return {name: replace(model, vision_params=0.0) for name, model in known.items()}


def check_encoders(
    encoders: Encoders, replicas: tuple[Replica, ...], workloads: tuple[Workload, ...]
) -> None:
    """Refuse encode replicas that nobody needs, or that would serve several models.

    Args:
        encoders: of the scenario.
        replicas: of the scenario.
        workloads: what each of them is asked.

    Raises:
        ScenarioError: naming the field, value and remedy.
    """
    if encoders.count == 0:
        return
    brought = {id(workload): workload.images for workload in workloads if workload.images}
    if len(brought) != 1:
        whose = "several deployments bring images" if brought else "requests bring no images"
        raise ScenarioError(
            f"encoders.count = {encoders.count}: {whose}; give images to the workload of one, or "
            "leave out [encoders]"
        )
    (images,) = brought.values()
    assert images is not None
    if 0 < encoders.cache_tokens < max(images.tokens):
        raise ScenarioError(
            f"encoders.cache_tokens = {encoders.cache_tokens} must be 0 or hold the largest image, "
            f"{max(images.tokens)} visual tokens"
        )
    for replica, workload in zip(replicas, workloads, strict=True):
        deployment = replica.deployment
        if workload.images and deployment.model.name != images.model:
            raise ScenarioError(
                f"{replica.where}.model = {deployment.model.name!r} must be images.model = "
                f"{images.model!r} of its workload: encode replicas make embeddings of one model; "
                "serve it, or leave out [encoders]"
            )
        if deployment.encoder_cache_tokens:
            raise ScenarioError(
                f"{replica.where}.encoder_cache_tokens = {deployment.encoder_cache_tokens}: "
                "encode replicas encode; give encoders.cache_tokens, or leave out [encoders]"
            )
