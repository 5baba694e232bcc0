"""The images of a scenario as records: what each costs where it is encoded, and who encodes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..engine.core.records import records, records_of
from ..engine.serving.encode_pool import ENCODE_POOL
from ..engine.serving.images import ENCODER_SPEC, IMAGE_COST
from ..hardware.catalogue import GPU
from ..hardware.encoders import encoder
from ..perf.serving.embeddings import embedding_s, start_s
from ..perf.serving.vision import compute_s, prepare_s
from ..scenario import Scenario
from ..workload.requests.images import Images


def build_images(scenario: Scenario) -> dict[str, Any]:
    """Return ENCODER_SPEC (R,), IMAGE_COST (R, sizes) and ENCODE_POOL (1,) by name.

    Without items where nobody brings any. Either replicas encode or encode replicas do, which have
    no ENCODER_SPEC and one row of costs. A step encodes as many visual tokens as it may compute,
    and as many are cached unless the replica says so; of both at least the largest image (vLLM's
    ``compute_mm_encoder_budget``).
    """
    brought = [scenario.workload_of(row).images for row in range(len(scenario.replicas))]
    sizes = max((len(images.sizes) for images in brought if images), default=0)
    if sizes == 0:
        return {}
    if scenario.encoders.gpu is not None:
        return _encode_pool(scenario, scenario.encoders.gpu, brought)
    specs = records(len(brought), ENCODER_SPEC)
    costs = records((len(brought), sizes), IMAGE_COST)
    for row, images in enumerate(brought):
        if images is None:
            continue
        deployment = scenario.replicas[row].deployment
        budget = deployment.max_num_batched_tokens // deployment.own_ranks
        largest = max(images.tokens)
        specs["step_tokens"][row] = max(budget, largest)
        specs["cache_tokens"][row] = max(deployment.encoder_cache_tokens or budget, largest)
        _fill_costs(costs[row], images, deployment.gpu)
    return {"encoder_specs": specs, "image_costs": costs}


def _encode_pool(scenario: Scenario, gpu: GPU, brought: list[Images | None]) -> dict[str, Any]:
    """Return what encode replicas do with images of one model, which these replicas are asked."""
    encoders = scenario.encoders
    images = next(images for images in brought if images)
    pairs = zip(scenario.replicas, brought, strict=True)
    served = [replica.deployment for replica, asked in pairs if asked]
    costs, receivers = records((1, len(images.sizes)), IMAGE_COST), tuple(d.gpu for d in served)
    _fill_costs(costs[0], images, gpu)
    pool = records_of(
        ENCODE_POOL,
        replicas=encoders.count,
        cache_tokens=encoders.cache_tokens,
        start_s=start_s(encoders.connector),
        token_s=embedding_s(served[0].model, gpu, receivers, encoders.connector),
    )
    return {"image_costs": costs, "encode_pool": pool}


def _fill_costs(costs: NDArray[np.void], images: Images, gpu: GPU) -> None:
    """Write what an image of each size costs on a GPU."""
    for size, image in enumerate(images.seen):
        costs["tokens"][size] = image.tokens
        costs["encode_s"][size] = compute_s(encoder(images.model), gpu, image)
        costs["prepare_s"][size] = prepare_s(gpu, image)
