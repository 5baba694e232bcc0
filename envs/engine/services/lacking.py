"""What of a KV cache moves: all of it, or what the decode replica's prefix cache lacks.

Where only that moves, a request holds the cached prefix units at both ends from the time at which
its blocks are reserved, so that none is evicted under way. ``prefix_units`` note where the prefill
replica has them; those at the other end are found by name. Source: vLLM's NixlConnector, which
asks for the tokens that are not cached locally and reads the last blocks of the remote ones
(``get_num_new_matched_tokens`` and ``_read_blocks``); Dynamo moves all (dynamo#7861).
"""

from __future__ import annotations

import math

from ..core.compile import kernel
from ..serving.growth import floor_div
from ..serving.kvcache import cached_units, unlink
from ..serving.prefixes import find


@kernel
def cached_there(w, e, r, request, spec):
    """Return the prefix units of a request that need not move to replica ``r``: it has them."""
    if w.roles[spec.role].lacking == 0 or request.prefix_count == 0 or spec.unit_tokens == 0:
        return 0
    most = floor_div(request.prompt_tokens + request.generated - 1, spec.unit_tokens)
    return cached_units(w, e, r, request, most, math.inf)


@kernel
def entry_there(w, e, r, request, unit):
    """Return where a cached prefix unit of a request is on a replica."""
    return find(w, e, w.prefix_units[e, request.prefix_begin + unit].node, r)


@kernel
def idle_there(w, e, r, request, units):
    """Return how many of the first ``units`` units nobody holds there: the deepest ones."""
    count = 0
    while count < units:
        at = entry_there(w, e, r, request, units - count - 1)
        if w.prefix_entries[e, at].holders > 0:
            break
        count += 1
    return count


@kernel
def hold_there(w, e, r, request, units, replica, spec):
    """Let a request that is to come hold its first ``units`` units on a replica."""
    for unit in range(units):
        at = entry_there(w, e, r, request, unit)
        if w.prefix_entries[e, at].holders == 0:
            unlink(w, e, at, replica)
            replica.free_blocks -= spec.unit_blocks
        w.prefix_entries[e, at].holders += 1
    request.there_nodes = units


@kernel
def take_there(w, e, r, request):
    """Let a request that holds nothing elsewhere hold what is kept for it on replica ``r``."""
    request.blocks, request.nodes = request.there, request.there_nodes
    for unit in range(request.nodes):
        at = entry_there(w, e, r, request, unit)
        w.prefix_units[e, request.prefix_begin + unit].entry = at
