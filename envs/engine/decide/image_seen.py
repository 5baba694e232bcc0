"""What a router sees of a request's image on a replica, and of encode replicas."""

from __future__ import annotations

import math

from ..core.compile import kernel
from ..serving.encode_pool import (
    encode_replica_for,
    encodes_apart,
    expected_embeddings_s,
    forget_encoded,
)
from ..serving.images import expected_image_s, has_image, sees_images
from ..serving.records import HANDED
from .columns import places, scaling, squash

CANDIDATE_VISION = places("candidates", "vision")
CLUSTER = places("cluster", "encoders")
CLUSTER_OFFSET, CLUSTER_SLOPE = scaling("cluster", "encoders")


@kernel
def brings_images(w):
    """Tell whether requests of this world may bring images."""
    return sees_images(w) or encodes_apart(w)


@kernel
def observe_image(w, e, r, index, now_s, report_s):
    """Fill the columns of a request's image, as of the last report.

    Returns:
        The seconds that the image adds to the time of its prompt alone.
    """
    row = w.candidates[e, r, w.layout[0].candidates_vision :]
    if encodes_apart(w):
        image = w.request_images[e, index].image
        row[CANDIDATE_VISION.image_here] = (
            image < 0 or encode_replica_for(w, e, image, now_s)[1] >= 0
        )
        return expected_embeddings_s(w, e, index, now_s)
    row[CANDIDATE_VISION.image_here] = has_image(w, e, r, index, report_s)
    if w.requests[e, index].stage == HANDED:  # the image is in the KV cache that comes
        return 0.0
    return expected_image_s(w, e, r, index, now_s, report_s)


@kernel
def observe_encoders(w, e):
    """Fill the columns of encode replicas."""
    if encodes_apart(w):
        now_s, queued, wait_s = w.clock[e].now_s, 0, math.inf
        for p in range(w.encode_queues.shape[1]):
            forget_encoded(w, e, p, now_s)
            queued += w.encode_queues[e, p].queued
            wait_s = min(wait_s, max(w.encode_queues[e, p].encoded_s - now_s, 0.0))
        row = w.cluster[e, w.layout[0].cluster_encoders :]
        row[CLUSTER.encoding], row[CLUSTER.encode_wait_s] = queued, wait_s
        squash(row, CLUSTER_OFFSET, CLUSTER_SLOPE)
