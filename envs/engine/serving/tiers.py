"""KV tiers: prefix units that host memory, or a store shared by replicas, keeps behind the GPUs.

Each tier holds units up to its room and evicts the least recently used one. With write-through a
unit is copied when it is sealed on the GPU, with write-back when the GPU evicts it; the store is
always written through. Whenever a request reads or writes units all of its own count as used, the
first one last, so that prefixes go deepest first, as on the GPU. Copies pass ports one after
another, reads and writes apart: PCIe to a replica's host memory; to the store the replica's NICs
and the port of the store, of which the later one counts. A unit can be read once it is written.
Sources: vLLM's OffloadingConnector (``vllm/v1/kv_offload``: LRU manager, touch in reverse order)
for the host tier, LMCache and the Mooncake store for the shared one.

One table of entries serves all tiers: tier t has a range of places of its own. Another one says for
each tier and unit where that stands. A request's units have ids that follow each other, so a few
lines of memory say it of all of them; with a hash table the engine mostly waited for memory.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.compile import kernel
from ..core.records import records
from .tier_records import NIC, TIER, TIER_ENTRY


def allocate_tiers(
    tier_specs: NDArray[np.void], num_envs: int, num_replicas: int, num_nodes: int
) -> dict[str, NDArray[Any]]:
    """Return the arrays of the tiers by name, none if there is no tier.

    Args:
        tier_specs: TIER_SPEC (T,).
        num_envs: E.
        num_replicas: R.
        num_nodes: H, room for distinct prefix ids: no tier needs more places.
    """
    if len(tier_specs) == 0:
        return {}
    entries = int(np.minimum(tier_specs["units"], num_nodes).sum())
    return {
        "tiers": records((num_envs, len(tier_specs)), TIER),
        "nics": records((num_envs, num_replicas), NIC),
        "tier_entries": records((num_envs, max(entries, 1)), TIER_ENTRY),
        "tier_places": np.zeros((num_envs, len(tier_specs), num_nodes), np.int32),
    }


def empty_tiers(
    arrays: dict[str, NDArray[Any]], tier_specs: NDArray[np.void], e: int, num_nodes: int
) -> None:
    """Empty the tiers of environment ``e``; arguments as for :func:`allocate_tiers`."""
    if len(tier_specs) == 0:
        return
    tiers = arrays["tiers"][e]
    tiers["units"] = np.minimum(tier_specs["units"], num_nodes)
    tiers["begin"] = np.cumsum(tiers["units"]) - tiers["units"]
    for name, start in (("used", 0), ("oldest", -1), ("newest", -1)):
        tiers[name] = start
    for name in ("read_free_s", "write_free_s"):
        tiers[name] = arrays["nics"][name][e] = 0.0
    arrays["tier_places"][e] = -1


@kernel
def seek(w, e, node, tier):
    """Return the entry of a unit in a tier, -1 if it is not there."""
    return int(w.tier_places[e, tier, node])


@kernel
def forget_all(w, e, tier):
    """Empty a tier; what it reads or writes just now keeps its port busy."""
    state = w.tiers[e, tier]
    for at in range(state.begin, state.begin + state.used):
        w.tier_places[e, tier, w.tier_entries[e, at].node] = -1
    state.used, state.oldest, state.newest = 0, -1, -1


@kernel
def cut(w, e, first, last, state):
    """Take entries out of their tier's order of use, from ``first`` down to the older ``last``."""
    older, newer = w.tier_entries[e, last].older, w.tier_entries[e, first].newer
    if older >= 0:
        w.tier_entries[e, older].newer = newer
    else:
        state.oldest = newer
    if newer >= 0:
        w.tier_entries[e, newer].older = older
    else:
        state.newest = older


@kernel
def put_below(w, e, first, last, above, state):
    """Put entries, linked from ``first`` to ``last``, right before ``above``; -1: as the newest."""
    older = w.tier_entries[e, above].older if above >= 0 else state.newest
    w.tier_entries[e, first].newer, w.tier_entries[e, last].older = above, older
    if older >= 0:
        w.tier_entries[e, older].newer = last
    else:
        state.oldest = last
    if above >= 0:
        w.tier_entries[e, above].older = first
    else:
        state.newest = first


@kernel
def put_last(w, e, at, state):
    """Make an entry the one that was used last."""
    put_below(w, e, at, at, -1, state)


@kernel(inline=False)
def put(w, e, node, tier, since_s):
    """Keep a unit that the tier lacks, in place of the least recently used one if it is full."""
    state = w.tiers[e, tier]
    if state.used < state.units:
        at = int(state.begin + state.used)
        state.used += 1
    else:
        at = int(state.oldest)
        cut(w, e, at, at, state)
        w.tier_places[e, tier, w.tier_entries[e, at].node] = -1
    item = w.tier_entries[e, at]
    item.node, item.since_s = node, since_s
    w.tier_places[e, tier, node] = at
    put_last(w, e, at, state)


@kernel(inline=False)
def touch(w, e, request, units, tier):
    """Count the first ``units`` units of a request as used, the first one last.

    Units that stand one behind another already, as the last time has left them, move as one. A tier
    with room for all units there are evicts none, so nobody asks for its order.
    """
    state, above, unit = w.tiers[e, tier], -1, 0
    if state.units == w.tier_places.shape[2]:
        return
    while unit < units:
        first = seek(w, e, w.prefix_units[e, request.prefix_begin + unit].node, tier)
        unit += 1
        if first < 0:
            continue
        last = first
        while unit < units:
            older = int(w.tier_entries[e, last].older)
            node = w.prefix_units[e, request.prefix_begin + unit].node
            if older < 0 or older != seek(w, e, node, tier):
                break
            last = older
            unit += 1
        cut(w, e, first, last, state)
        put_below(w, e, first, last, above, state)
        above = last


@kernel
def read_by_s(w, e, r, tier, units, now_s):
    """Let replica ``r`` read units from a tier; returns when it has them."""
    state, own = w.tiers[e, tier], w.replica_tiers[r]
    state.read_free_s = max(now_s, state.read_free_s) + units * w.tier_specs[tier].unit_s
    if tier != own.store:
        return state.read_free_s
    nic = w.nics[e, r]
    nic.read_free_s = max(now_s, nic.read_free_s) + units * own.nic_unit_s
    return max(state.read_free_s, nic.read_free_s)


@kernel
def written_by_s(w, e, r, tier, now_s):
    """Let replica ``r`` write a unit to a tier; returns when it is there."""
    state, own = w.tiers[e, tier], w.replica_tiers[r]
    state.write_free_s = max(now_s, state.write_free_s) + w.tier_specs[tier].unit_s
    if tier != own.store:
        return state.write_free_s
    nic = w.nics[e, r]
    nic.write_free_s = max(now_s, nic.write_free_s) + own.nic_unit_s
    return max(state.write_free_s, nic.write_free_s)


@kernel
def copy_to(w, e, r, request, begin, tier, now_s):
    """Copy the units of a request from ``begin`` on that the tier lacks."""
    for unit in range(begin, request.nodes):
        node = w.prefix_units[e, request.prefix_begin + unit].node
        if seek(w, e, node, tier) < 0 and w.tiers[e, tier].units > 0:
            put(w, e, node, tier, written_by_s(w, e, r, tier, now_s))
    touch(w, e, request, int(request.nodes), tier)


@kernel(inline=False)
def write_through(w, e, r, request, begin, now_s):
    """Copy the units of a request that the GPU has sealed, from ``begin`` on, to its tiers."""
    own = w.replica_tiers[r]
    if own.host >= 0 and own.write_back == 0:
        copy_to(w, e, r, request, begin, own.host, now_s)
    if own.store >= 0:
        copy_to(w, e, r, request, begin, own.store, now_s)


@kernel(inline=False)
def write_back(w, e, r, node):
    """Keep a unit that the GPU evicts in the replica's host memory.

    It can be read at once: the GPU's block is taken only when it has been copied.
    """
    own = w.replica_tiers[r]
    if own.host < 0 or own.write_back == 0 or w.tiers[e, own.host].units == 0:
        return
    at = seek(w, e, node, own.host)
    if at < 0:
        put(w, e, node, own.host, 0.0)
    else:
        cut(w, e, at, at, w.tiers[e, own.host])
        put_last(w, e, at, w.tiers[e, own.host])


@kernel(inline=False)
def tier_of(w, e, r, node, by_s):
    """Return the tier from which replica ``r`` can read a unit written by ``by_s``, -1: none."""
    own = w.replica_tiers[r]
    if own.host >= 0:
        at = seek(w, e, node, own.host)
        if at >= 0 and w.tier_entries[e, at].since_s <= by_s:
            return int(own.host)
    if own.store >= 0:
        at = seek(w, e, node, own.store)
        if at >= 0 and w.tier_entries[e, at].since_s <= by_s:
            return int(own.store)
    return -1
