"""What a router sees of techniques of replicas: KV tiers, images and adapters."""

from __future__ import annotations

from ..core.compile import kernel
from ..serving.adapters import has_adapter, has_place, names_adapters
from ..serving.fetching import expected_fetch_s
from ..serving.growth import floor_div
from .columns import places
from .image_seen import brings_images, observe_image

CANDIDATE_LORA = places("candidates", "lora")


@kernel
def shows_techniques(w):
    """Tell whether this world has any of them."""
    return len(w.replica_tiers) > 0 or brings_images(w) or names_adapters(w)


@kernel(inline=False)
def observe_techniques(w, e, r, index, hit, match, near, ready_s, report_s, spec):
    """Fill their columns in the row of sending request ``index`` to the replica.

    Of its tokens ``hit`` are cached there and ``match`` are if those in tiers count too, ``near``
    units of them in the replica's own host memory.

    Returns:
        The seconds until its prompt is computed there, which are ``ready_s`` for the prompt alone.
    """
    request, now_s = w.requests[e, index], w.clock[e].now_s
    if match > hit:
        fetched = floor_div(match, spec.unit_tokens) - floor_div(hit, spec.unit_tokens)
        ready_s += expected_fetch_s(w, e, r, near, fetched - near, now_s)
    if brings_images(w):
        ready_s += observe_image(w, e, r, index, now_s, report_s)
    if names_adapters(w):
        row = w.candidates[e, r, w.layout[0].candidates_lora :]
        row[CANDIDATE_LORA.adapter_here] = has_adapter(w, e, r, request.adapter)
        row[CANDIDATE_LORA.adapter_room] = has_place(w, e, r, request.adapter)
    return ready_s
