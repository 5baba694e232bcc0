"""Encode replicas: images are encoded apart from the replicas that compute their prompts.

An image goes to the encode replica that has it in its cache, else to the one with the fewest images
waiting or under way, the first of those. There its CPU prepares images one at a time, its GPU
encodes them one at a time, both in the order in which they were sent, and the embeddings travel to
the replica that the router chose, each for itself in ``start_s + tokens * token_s``. So all of it
is known when the request is sent, and nothing ever happens here by itself. The request stands in
its replica's queue from the moment on in which its embeddings are there; those that come meanwhile
go before it. A request that is sent again because its replica ended keeps its place in line; once
encoded, its image has to be encoded anew, or found in a cache. Sources: NVIDIA Dynamo's encode
workers, which prepare, encode and send embeddings by NIXL (docs.nvidia.com/dynamo, encoder
disaggregation); vLLM's disaggregated encoder, whose proxy calls the encode instance before the one
that prefills; Singh et al., arXiv 2501.05460.
Left out: batches of images, an image split over several encode replicas, links that embeddings
share, the memory of embeddings where they wait.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.compile import kernel
from ..core.records import records
from .images import CACHED_IMAGE, ENCODER, REQUEST_IMAGE, cached_at, place_for

ENCODE_POOL = np.dtype(  # all encode replicas, which are alike
    [
        ("replicas", "i4"),
        ("cache_tokens", "i4"),  # visual tokens that each keeps encoded, 0: none
        ("start_s", "f8"),  # of sending embeddings, besides their bytes
        ("token_s", "f8"),  # to send the embedding of a visual token
    ],
    align=True,
)

ENCODE_QUEUE = np.dtype(  # of one encode replica
    [
        ("head", "i4"),  # request whose image is encoded or the next to be, -1: none
        ("tail", "i4"),  # the last one of them
        ("queued", "i4"),  # how many they are
        ("images", "i4"),  # sent there to be encoded so far
        ("encoded_s", "f8"),  # when it has encoded all of them
        ("busy_s", "f8"),  # seconds that its GPU takes for them
    ],
    align=True,
)

ENCODING = np.dtype(  # of a request's image
    [
        ("replica", "i4"),  # the encode replica, -1: none
        ("next", "i4"),  # request behind it there
        ("encoded_s", "f8"),
        ("here_s", "f8"),  # when its embeddings are at the replica that prefills
    ],
    align=True,
)


def allocate_pool(
    pool: NDArray[np.void], costs: NDArray[np.void], num_envs: int, num_requests: int
) -> dict[str, NDArray[Any]]:
    """Return the arrays of encode replicas by name, none if there are none.

    Args:
        pool: ENCODE_POOL (1,), or (0,).
        costs: IMAGE_COST (1, sizes), of an encode replica.
        num_envs: E.
        num_requests: N, room for requests, and so for different images.
    """
    if len(pool) == 0:
        return {}
    shape = (num_envs, int(pool["replicas"][0]))
    places = min(int(pool["cache_tokens"][0] // costs["tokens"].min()), num_requests)
    return {
        "request_images": records((num_envs, num_requests), REQUEST_IMAGE),
        "encoders": records(shape, ENCODER),
        "cached_images": records((*shape, max(1, places)), CACHED_IMAGE),
        "encode_queues": records(shape, ENCODE_QUEUE),
        "encodings": records((num_envs, num_requests), ENCODING),
    }


def empty_pool(arrays: dict[str, NDArray[Any]], e: int) -> None:
    """Let the encode replicas of environment ``e`` have nothing to do."""
    if "encode_queues" in arrays:
        arrays["encode_queues"][e] = 0
        arrays["encode_queues"]["head"][e] = -1
        arrays["encodings"]["replica"][e] = -1
        arrays["encodings"]["encoded_s"][e] = arrays["encodings"]["here_s"][e] = np.nan


@kernel
def encodes_apart(w):
    """Tell whether encode replicas encode the images of this world."""
    return len(w.encode_pool) > 0


@kernel
def forget_encoded(w, e, p, now_s):
    """Count what an encode replica has encoded by now no more."""
    queue = w.encode_queues[e, p]
    while queue.queued > 0 and w.encodings[e, queue.head].encoded_s <= now_s:
        queue.head = w.encodings[e, queue.head].next
        queue.queued -= 1


@kernel
def encode_replica_for(w, e, image, now_s):
    """Return the encode replica for an image, and the image's place in its cache, -1: none."""
    best = 0
    for p in range(w.encode_queues.shape[1]):
        if w.encode_pool[0].cache_tokens > 0:
            at = cached_at(w, e, p, image)
            if at >= 0:
                return p, at
        forget_encoded(w, e, p, now_s)
        if w.encode_queues[e, p].queued < w.encode_queues[e, best].queued:
            best = p
    return best, -1


@kernel
def encoded_by_s(w, e, p, cost, now_s):
    """Return when an encode replica would have prepared an image sent now, and encoded it."""
    prepared_s = max(w.encoders[e, p].prepared_s, now_s) + cost.prepare_s
    return prepared_s, max(w.encode_queues[e, p].encoded_s, prepared_s) + cost.encode_s


@kernel
def line_up(w, e, p, index, cost, now_s):
    """Put the image of a request into the line of an encode replica; returns when it is encoded."""
    queue = w.encode_queues[e, p]
    w.encoders[e, p].prepared_s, queue.encoded_s = encoded_by_s(w, e, p, cost, now_s)
    if queue.queued == 0:
        queue.head = index
    else:
        w.encodings[e, queue.tail].next = index
    queue.tail = index
    queue.queued += 1
    queue.images += 1
    queue.busy_s += cost.encode_s
    w.request_images[e, index].encoded += cost.tokens
    return queue.encoded_s


@kernel
def keep_image(w, e, p, image, tokens, encoded_s):
    """Give an image a place in the cache of an encode replica, from when it is lined up there."""
    at = place_for(w, e, p, tokens, w.encode_pool[0].cache_tokens)
    entry = w.cached_images[e, p, at]
    entry.image, entry.tokens, entry.since_s = image, tokens, encoded_s
    w.encoders[e, p].used += tokens
    return at


@kernel(inline=False)
def embeddings_s(w, e, index, now_s):
    """Have the image of a request that is sent now encoded.

    Returns:
        When its embeddings are at the replica that the request is sent to; now if it has no image.
    """
    own = w.request_images[e, index]
    if own.image < 0:
        return now_s
    pool, cost, encoding = w.encode_pool[0], w.image_costs[0, own.row], w.encodings[e, index]
    if encoding.encoded_s > now_s:  # in line, while the replica that it was sent to ended
        return encoding.here_s
    p, at = encode_replica_for(w, e, own.image, now_s)
    if at >= 0:
        encoding.encoded_s = max(w.cached_images[e, p, at].since_s, now_s)
    else:
        encoding.encoded_s = line_up(w, e, p, index, cost, now_s)
        if pool.cache_tokens > 0:
            at = keep_image(w, e, p, own.image, cost.tokens, encoding.encoded_s)
    if at >= 0:
        w.encoders[e, p].releases += 1
        w.cached_images[e, p, at].released = w.encoders[e, p].releases
    encoding.replica = p
    encoding.here_s = encoding.encoded_s + pool.start_s + cost.tokens * pool.token_s
    return encoding.here_s


@kernel
def expected_embeddings_s(w, e, index, now_s):
    """Return how long the embeddings of a request would take if it were sent now."""
    own = w.request_images[e, index]
    if own.image < 0:
        return 0.0
    if w.encodings[e, index].encoded_s > now_s:
        return w.encodings[e, index].here_s - now_s
    pool, cost = w.encode_pool[0], w.image_costs[0, own.row]
    p, at = encode_replica_for(w, e, own.image, now_s)
    if at >= 0:
        encoded_s = max(w.cached_images[e, p, at].since_s, now_s)
    else:
        _, encoded_s = encoded_by_s(w, e, p, cost, now_s)
    return encoded_s - now_s + pool.start_s + cost.tokens * pool.token_s
