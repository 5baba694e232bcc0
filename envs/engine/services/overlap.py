"""Layer by layer: a KV cache sets off as its prompt is computed, not only then.

A request is handed over when the step begins that computes the last of its prompt, so that its
decode replica is chosen and keeps blocks for it before. With P seconds of that step and L layers,
layer i is ready after ``i P / L``, so the bytes begin to move after the first one, and software,
and go no faster until the end of the step than would take them, all but the last layer, until then.
At a steady rate, at which all would take S seconds, what is left after the step is

    max(S / L, S - (time that they have moved))

Source: Splitwise, Patel et al., ISCA 2024, 4.3 (a layer's cache goes while the next one is
computed); vLLM's connectors save a layer when its attention is done (``save_kv_layer``). Of a
prompt that takes several steps only the last one is beside its transfer here.
"""

from __future__ import annotations

from ..core.compile import kernel
from ..network.once import hurry
from ..serving.chunks import is_partial
from ..serving.parking import hand_over
from ..serving.records import MOVING, WHOLE


@kernel(inline=False)
def hand_over_early(w, e, r):
    """Hand over the requests whose prompts the step computes that a prefill replica has begun."""
    replica = w.replicas[e, r]
    if replica.busy == 0:
        return
    for at in range(replica.running - replica.prefilling, replica.running):
        index = int(w.slots[e, r, at].request)
        request = w.requests[e, index]
        if request.stage == WHOLE and not is_partial(request):
            request.computed_s = replica.end_s
            hand_over(w, e, r, index, replica, w.router[e])


@kernel(inline=False)
def release_all(w, e, r, now_s):
    """Let the KV caches whose prompts are computed now move as fast as they can."""
    replica = w.replicas[e, r]
    if replica.busy == 0 or replica.end_s > now_s:
        return
    for at in range(replica.running - replica.prefilling, replica.running):
        request = w.requests[e, w.slots[e, r, at].request]
        if request.stage == MOVING:
            hurry(w, e, int(request.sender), now_s)


@kernel
def hold_to_layers(w, e, request, once, begin_s, layers):
    """Return when the first layer can go, and hold the others to the pace of their prompt.

    ``begin_s`` is when software lets it go.
    """
    if layers == 0 or request.computed_s <= w.clock[e].now_s:
        return begin_s
    started_s = w.replicas[e, request.source].start_s
    first_s = started_s + (request.computed_s - started_s) / layers
    begin_s = max(begin_s, first_s)
    if begin_s < request.computed_s:
        early_bytes = once.bytes * (1.0 - 1.0 / layers)
        once.early_bytes_per_s = early_bytes / (request.computed_s - begin_s)
    return begin_s
