"""How far KV caches may move, and should: domains that hold both ends of a handover.

A decode replica beyond it is no candidate for a request, nor is a prefill replica while no decode
replica in its reach serves or loads. Where that has gone when a prompt is computed, the prompt is
computed anew elsewhere. A replica stands where its first GPU does. Source: Dynamo, topology-aware
KV transfer with ``required`` enforcement, which derives a constraint on decode workers from the
prefill worker's domain, and with ``preferred`` enforcement, which leaves all of them candidates and
has those of the domain cost less (docs.nvidia.com/dynamo, router, topology-aware KV transfer).
"""

from __future__ import annotations

from ..core.compile import kernel
from ..gangs.domains import level_between
from ..gangs.plans import ZONE
from ..serving.records import DECODE, HANDED, PREFILL, SERVING, STARTING
from .handover import gpu_of_replica, node_of


@kernel
def is_confined(w, r):
    """Tell whether the KV caches of a prefill or decode replica may not move everywhere."""
    return w.roles[w.replica_specs[r].role].farthest < ZONE


@kernel(inline=False)
def are_within(w, e, a, b, level):
    """Tell whether two replicas that have their devices stand in one domain of a level."""
    if level >= ZONE:
        return True
    here, there = node_of(w, gpu_of_replica(w, e, a)), node_of(w, gpu_of_replica(w, e, b))
    return level_between(w, here, there) <= level


@kernel
def reaches(w, e, a, b):
    """Tell whether a KV cache may move between two replicas that have their devices."""
    return are_within(w, e, a, b, w.roles[w.replica_specs[a].role].farthest)


@kernel(inline=False)
def decoder_within(w, e, r, level):
    """Tell whether a decode replica in a prefill replica's domain of a level serves or loads."""
    if level >= ZONE:
        return True
    for d in range(len(w.replica_specs)):
        spec, phase = w.replica_specs[d], w.replicas[e, d].phase
        goes_on = spec.service == w.replica_specs[r].service and spec.does == DECODE
        if goes_on and (phase == SERVING or phase == STARTING) and are_within(w, e, r, d, level):
            return True
    return False


@kernel
def has_decoder(w, e, r):
    """Tell whether a decode replica that a prefill replica reaches serves or loads."""
    return decoder_within(w, e, r, w.roles[w.replica_specs[r].role].farthest)


@kernel
def stays_near(w, e, r, request):
    """Tell whether the KV cache of a request sent to a replica stays in the preferred domain.

    So it does where none moves, and on a prefill replica if it can.
    """
    spec = w.replica_specs[r]
    level = w.roles[spec.role].nearest
    if request.stage == HANDED:
        return are_within(w, e, int(request.source), r, level)
    return spec.does != PREFILL or decoder_within(w, e, r, level)


@kernel
def is_cut_off(w, e, r, request):
    """Tell whether a replica of its service that serves is no help to a request that waits."""
    if w.replicas[e, r].phase != SERVING or not is_confined(w, r):
        return False
    does = w.replica_specs[r].does
    if request.stage == HANDED:
        return does == PREFILL or not reaches(w, e, int(request.source), r)
    return does == DECODE or not has_decoder(w, e, r)
