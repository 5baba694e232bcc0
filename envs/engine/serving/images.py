"""Images of requests: encoded before their prompt is computed, kept in an encoder cache.

An image is the first part of its prompt. The step that admits a request encodes its image before it
computes the prompt, and lasts longer by it, unless the replica's encoder cache has it. A step
encodes no more visual tokens than its encoder budget; an image stays in the cache while a prompt
that has not computed all of it runs, and afterwards until its room is needed, least recently
released first. A request whose image finds no budget or no room waits, and those behind it, too.
Before that the front end prepares images (decoding, resizing) one at a time. Sources: vLLM's
``vllm/v1/core/encoder_cache_manager.py`` and ``_try_schedule_encoder_inputs`` of its scheduler.
Left out: several images of a request, images behind text, and that vLLM evicts for a request whose
KV blocks are then lacking.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.compile import kernel
from ..core.records import records

ENCODER_SPEC = np.dtype(  # of one replica
    [
        ("step_tokens", "i4"),  # visual tokens encoded in a step at most
        ("cache_tokens", "i4"),  # that its encoder cache holds
    ]
)

IMAGE_COST = np.dtype(  # an image of one size on one replica
    [
        ("tokens", "i4"),
        ("encode_s", "f8"),
        ("prepare_s", "f8"),  # in the front end
    ],
    align=True,
)

REQUEST_IMAGE = np.dtype(
    [
        ("image", "i4"),  # -1: none
        ("row", "i4"),  # of its size among the costs of a replica
        ("held", "i4"),  # 1: the encoder cache keeps it for this request
        ("encoded", "i4"),  # visual tokens encoded for it so far
    ]
)

ENCODER = np.dtype(  # where the encoder of a replica stands; tokens are visual ones
    [
        ("left", "i4"),  # tokens that the step being scheduled may still encode
        ("used", "i4"),  # tokens of the images in the cache
        ("held", "i4"),  # of those that running requests need
        ("releases", "i8"),  # images that nobody needed any more, so far
        ("prepared_s", "f8"),  # when its front end has prepared the images sent so far
    ],
    align=True,
)

CACHED_IMAGE = np.dtype(  # a place of an encoder cache
    [
        ("image", "i4"),  # -1: none
        ("tokens", "i4"),
        ("users", "i4"),  # running requests that need it
        ("released", "i8"),  # how many releases there had been when it had no user any more
        ("since_s", "f8"),  # when it was encoded
    ],
    align=True,
)


def allocate_images(
    encoder_specs: NDArray[np.void], costs: NDArray[np.void], num_envs: int, num_requests: int
) -> dict[str, NDArray[Any]]:
    """Return the arrays of images by name, none if no request brings one.

    Args:
        encoder_specs: ENCODER_SPEC (R,), or (0,) if no request brings one.
        costs: IMAGE_COST (R, sizes), 0 tokens where a replica has fewer sizes.
        num_envs: E.
        num_requests: N, room for requests, and so for different images.
    """
    if len(encoder_specs) == 0:
        return {}
    smallest = np.where(costs["tokens"] > 0, costs["tokens"], np.iinfo(np.int32).max).min(axis=1)
    places = int((encoder_specs["cache_tokens"] // smallest).max())
    shape = (num_envs, len(encoder_specs))
    return {
        "request_images": records((num_envs, num_requests), REQUEST_IMAGE),
        "encoders": records(shape, ENCODER),
        "cached_images": records((*shape, max(1, min(places, num_requests))), CACHED_IMAGE),
    }


def load_images(arrays: dict[str, NDArray[Any]], e: int, stream: Any) -> None:
    """Empty the encoder caches of environment ``e`` and give its requests their images."""
    if "request_images" not in arrays:
        return
    arrays["encoders"][e] = arrays["cached_images"][e] = arrays["request_images"][e] = 0
    arrays["cached_images"]["image"][e] = arrays["request_images"]["image"][e] = -1
    if stream.image is not None:
        arrays["request_images"]["image"][e, : len(stream)] = stream.image
        arrays["request_images"]["row"][e, : len(stream)] = stream.image_size


@kernel
def sees_images(w):
    """Tell whether requests of this world may bring images."""
    return len(w.encoder_specs) > 0


@kernel
def cached_at(w, e, r, image):
    """Return the place of an image in the encoder cache of a replica, -1: it is not there."""
    for at in range(w.cached_images.shape[2]):
        if w.cached_images[e, r, at].image == image:
            return at
    return -1


@kernel
def has_image(w, e, r, index, by_s):
    """Tell whether a replica had encoded the image of a request by ``by_s``, or it has none."""
    image = w.request_images[e, index].image
    if image < 0:
        return True
    at = cached_at(w, e, r, image)
    return at >= 0 and w.cached_images[e, r, at].since_s <= by_s


@kernel
def begin_encoding(w, e, r):
    """Give the step being scheduled its encoder budget."""
    if sees_images(w):
        w.encoders[e, r].left = w.encoder_specs[r].step_tokens


@kernel(inline=False)
def may_encode(w, e, r, index):
    """Tell whether a waiting request may be admitted as far as its image goes."""
    if w.requests[e, index].blocks > 0:  # its KV cache has come
        return True
    if has_image(w, e, r, index, math.inf):
        return True
    encoder = w.encoders[e, r]
    tokens = w.image_costs[r, w.request_images[e, index].row].tokens
    return tokens <= encoder.left and tokens <= w.encoder_specs[r].cache_tokens - encoder.held


@kernel
def evict_image(w, e, r):
    """Forget the image that nobody has needed for longest; returns its place."""
    oldest = -1
    for at in range(w.cached_images.shape[2]):
        entry = w.cached_images[e, r, at]
        if entry.image >= 0 and entry.users == 0:
            if oldest < 0 or entry.released < w.cached_images[e, r, oldest].released:
                oldest = at
    w.encoders[e, r].used -= w.cached_images[e, r, oldest].tokens
    w.cached_images[e, r, oldest].image = -1
    return oldest


@kernel
def place_for(w, e, r, tokens, cache_tokens):
    """Return a free place of an encoder cache, with room for ``tokens``."""
    at = cached_at(w, e, r, -1)
    while at < 0 or w.encoders[e, r].used + tokens > cache_tokens:
        at = evict_image(w, e, r)
    return at


@kernel(inline=False)
def take_image(w, e, r, index, now_s):
    """Let an admitted request use its image; returns the seconds to encode it."""
    own, encoder = w.request_images[e, index], w.encoders[e, r]
    if own.image < 0 or w.requests[e, index].computed >= w.image_costs[r, own.row].tokens:
        return 0.0
    cost = w.image_costs[r, own.row]
    at, seconds = cached_at(w, e, r, own.image), 0.0
    if at < 0:
        at = place_for(w, e, r, cost.tokens, w.encoder_specs[r].cache_tokens)
        entry = w.cached_images[e, r, at]
        entry.image, entry.tokens, entry.users = own.image, cost.tokens, 0
        entry.since_s = now_s
        encoder.used += cost.tokens
        encoder.left -= cost.tokens
        own.encoded += cost.tokens
        seconds = cost.encode_s
    if w.cached_images[e, r, at].users == 0:
        encoder.held += cost.tokens
    w.cached_images[e, r, at].users += 1
    own.held = 1
    return seconds


@kernel(inline=False)
def leave_image(w, e, r, index):
    """Let a running request need its image no more; the cache keeps it while there is room."""
    if w.request_images[e, index].held == 0:
        return
    own, encoder = w.request_images[e, index], w.encoders[e, r]
    entry = w.cached_images[e, r, cached_at(w, e, r, own.image)]
    own.held = 0
    entry.users -= 1
    if entry.users == 0:
        encoder.held -= entry.tokens
        encoder.releases += 1
        entry.released = encoder.releases


@kernel
def leave_computed(w, e, r, index):
    """Let a request whose image is in the KV cache need it no more."""
    if sees_images(w):
        tokens = w.image_costs[r, w.request_images[e, index].row].tokens
        if w.requests[e, index].computed >= tokens:
            leave_image(w, e, r, index)


@kernel(inline=False)
def prepared_s(w, e, r, index, now_s):
    """Let the front end prepare a request sent now; returns when it has."""
    if not sees_images(w):
        return now_s
    own, encoder = w.request_images[e, index], w.encoders[e, r]
    encoder.prepared_s = max(encoder.prepared_s, now_s)
    if own.image >= 0:
        encoder.prepared_s += w.image_costs[r, own.row].prepare_s
    return encoder.prepared_s


@kernel
def encoding_s(w, e, r, index, by_s):
    """Return the seconds to encode a request's image, 0 if it was in the cache by ``by_s``."""
    if not sees_images(w) or has_image(w, e, r, index, by_s):
        return 0.0
    return w.image_costs[r, w.request_images[e, index].row].encode_s


@kernel
def expected_image_s(w, e, r, index, now_s, by_s):
    """Return the seconds that a request's image would take, and those prepared before it.

    By what was in the cache by ``by_s``; nothing changes.
    """
    own = w.request_images[e, index]
    seconds = max(w.encoders[e, r].prepared_s - now_s, 0.0)
    if own.image >= 0:
        seconds += w.image_costs[r, own.row].prepare_s
    return seconds + encoding_s(w, e, r, index, by_s)


@kernel(inline=False)
def forget_images(w, e, r):
    """Empty the encoder cache of a replica that ends."""
    if sees_images(w):
        encoder = w.encoders[e, r]
        encoder.used, encoder.held, encoder.prepared_s = 0, 0, 0.0
        for at in range(w.cached_images.shape[2]):
            w.cached_images[e, r, at].image, w.cached_images[e, r, at].users = -1, 0
