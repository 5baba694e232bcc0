"""The images of a scenario as records: what each costs on a replica, and what its encoder does."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..engine.core.records import records
from ..engine.serving.images import ENCODER_SPEC, IMAGE_COST
from ..hardware.encoders import encoder
from ..perf.serving.vision import compute_s, prepare_s
from ..scenario import Scenario


def build_images(scenario: Scenario) -> tuple[NDArray[np.void], NDArray[np.void]]:
    """Return ENCODER_SPEC (R,) and IMAGE_COST (R, sizes), without items where nobody brings any.

    A step encodes as many visual tokens as it may compute, and as many are cached unless the
    replica says so; of both at least the largest image (vLLM's ``compute_mm_encoder_budget``).
    """
    brought = [scenario.workload_of(row).images for row in range(len(scenario.replicas))]
    sizes = max((len(images.sizes) for images in brought if images), default=0)
    if sizes == 0:
        return records(0, ENCODER_SPEC), records((0, 0), IMAGE_COST)
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
        for size, image in enumerate(images.seen):
            costs["tokens"][row, size] = image.tokens
            seen = encoder(images.model)
            costs["encode_s"][row, size] = compute_s(seen, deployment.gpu, image)
            costs["prepare_s"][row, size] = prepare_s(deployment.gpu, image)
    return specs, costs
