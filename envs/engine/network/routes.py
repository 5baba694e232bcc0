"""Which way a flow goes: the uplink of its leaf switch, the core, and the way down.

Within a node a flow uses no link and under one leaf switch only those of its nodes. Otherwise it
climbs over an uplink to the spine at its far end and comes down from there; between pods the spine
of the one pod reaches the spine of the same number in the other over the core.

ECMP hashes each part of a flow (source port of a queue pair) at every hop. BALANCED gives each part
the uplink of its leaf switch with the fewest parts so far. SOURCE gives each GPU the uplink of its
own number. A gang with uplinks of its own uses those; nobody else does. With several planes the
parts of a flow leave in turn through the ports of its NIC, one in each plane.

Sources: RFC 2992 (ECMP by hashing); RapidNetSim (source routing of vClos); Alibaba HPN,
SIGCOMM 2024 (planes).
"""

from __future__ import annotations

import numpy as np

from ..core.compile import kernel
from ..core.owners import FREE
from ..core.random import hash64
from .links import core_down, core_up, leaf_down, leaf_up
from .records import BALANCED, ECMP

_SENDER = np.uint64(0xD1B54A32D192ED03)  # odd constants that keep the parts of a key apart
_SOURCE = np.uint64(0x8CB92BA72F3D8DD7)
_PART = np.uint64(0xABC98388FB8FAC03)
_S33 = np.uint64(33)
_TRIES = 16  # draws of a hash before the uplinks are searched one by one


@kernel
def flow_key(seed, j, source, target):
    """Return the hash of what all packets of a flow have in common."""
    ends = np.uint64(source) * _SOURCE + np.uint64(target)
    return hash64(hash64(seed + np.uint64(j) * _SENDER) ^ ends)


@kernel
def draw(key, part, attempt, choices):
    """Return a hashed number below ``choices``."""
    word = hash64(key + np.uint64(part * 64 + attempt) * _PART)
    return int(np.int64(word >> _S33) % choices)


@kernel
def may_use(w, e, j, switch, uplink):
    """Tell whether a flow of sender ``j`` may use an uplink: lit, and free or its own."""
    owner = w.uplink_owner[e, switch, uplink]
    own = owner == j if w.senders[e, j].reserved == 1 else owner == FREE
    return own and w.circuits[e, switch, uplink] >= 0


@kernel
def way_down(w, e, j, switch, spine, wanted):
    """Return the uplink of ``switch`` that a flow comes down from ``spine``, -1 if there is none.

    ``wanted`` is taken if possible, else the next one behind it.
    """
    uplinks = w.fabric[0].uplinks
    for step in range(uplinks):
        uplink = wanted + step
        if uplink >= uplinks:
            uplink -= uplinks
        if w.circuits[e, switch, uplink] == spine and may_use(w, e, j, switch, uplink):
            return uplink
    return -1


@kernel
def hashed_way(w, e, j, above, below, key, part):
    """Return uplinks (up, down) by hash among those that lead to the other switch, or (-1, -1)."""
    fabric = w.fabric[0]
    uplinks, spines, planes = fabric.uplinks, fabric.spines, fabric.planes
    plane = (draw(key, 0, 60, planes) + part) % planes if planes > 1 else 0
    for attempt in range(_TRIES + uplinks):
        if attempt < _TRIES:
            up = draw(key, part, attempt, uplinks)
        else:  # hardly any is left: search
            up = attempt - _TRIES
        if not may_use(w, e, j, above, up):
            continue
        spine = w.circuits[e, above, up]
        if planes > 1 and spine % planes != plane:
            continue
        wanted = draw(key, part, 61, uplinks)
        if fabric.optical == 0:  # of the parallel links to this spine
            wanted = spine + spines * (wanted % max(uplinks // spines, 1))
        down = way_down(w, e, j, below, spine, wanted)
        if down >= 0:
            return up, down
    return -1, -1


@kernel
def emptiest_way(w, e, j, above, below):
    """Return uplinks (up, down), up being the one with the fewest parts, or (-1, -1)."""
    best, best_down, fewest = -1, -1, 0
    for up in range(w.fabric[0].uplinks):
        parts = w.uplink_flows[e, above, up]
        if (best < 0 or parts < fewest) and may_use(w, e, j, above, up):
            down = way_down(w, e, j, below, w.circuits[e, above, up], up)
            if down >= 0:
                best, best_down, fewest = up, down, parts
    return best, best_down


@kernel
def wanted_way(w, e, j, above, below, up, down):
    """Return uplinks (up, down) as wanted if that is possible, else the next ones, or (-1, -1)."""
    uplinks = w.fabric[0].uplinks
    for _ in range(uplinks):
        if may_use(w, e, j, above, up):
            found = way_down(w, e, j, below, w.circuits[e, above, up], down)
            if found >= 0:
                return up, found
        up = up + 1 if up + 1 < uplinks else 0
    return -1, -1


@kernel(inline=False)
def choose_way(w, e, j, source, target, part):
    """Return (uplink of the source's switch, core uplink, uplink of the target's switch).

    If no uplink that the sender may use leads there, the flow goes as wired over the uplink of its
    own number, whoever owns it.

    Args:
        w: the bundle.
        e: environment.
        j: sender.
        source: GPU that sends.
        target: GPU under another leaf switch.
        part: of the flow, below ``queue_pairs``.
    """
    fabric = w.fabric[0]
    above, below = w.gpu_switch[source], w.gpu_switch[target]
    own = w.gpu_port[source] % fabric.uplinks
    key = flow_key(w.network[e].hash_seed, j, source, target)
    if w.senders[e, j].reserved == 1:
        up, down = w.gpu_uplink[e, source], w.gpu_uplink[e, target]
        up, down = wanted_way(w, e, j, above, below, max(up, 0), max(down, 0))
    elif fabric.routing == ECMP:
        up, down = hashed_way(w, e, j, above, below, key, part)
    elif fabric.routing == BALANCED:
        up, down = emptiest_way(w, e, j, above, below)
    else:
        up, down = wanted_way(w, e, j, above, below, own, own)
    if up < 0:
        up, down = own, own
    core = 0
    if fabric.core_uplinks > 0:
        if fabric.routing == ECMP and w.senders[e, j].reserved == 0:
            core = draw(key, part, 62, fabric.core_uplinks)
        else:  # neighbouring switches use different ones
            parallel = max(fabric.uplinks // fabric.spines, 1)
            core = (above * parallel + up // fabric.spines) % fabric.core_uplinks
    return up, core, down


@kernel
def find_way(w, e, j, source, target, part):
    """Write the links between the leaf switches of two GPUs into ``w.way``; return how many.

    Arguments are those of :func:`choose_way`.
    """
    above, below = w.gpu_switch[source], w.gpu_switch[target]
    pod_above, pod_below = w.switch_pods[above], w.switch_pods[below]
    up, core, down = choose_way(w, e, j, source, target, part)
    w.uplink_flows[e, above, up] += 1
    w.way[e, 0] = leaf_up(w, above, up)
    last = 1
    if pod_above != pod_below:
        spine = max(w.circuits[e, above, up], 0)
        w.way[e, 1] = core_up(w, pod_above, spine, core)
        w.way[e, 2] = core_down(w, pod_below, spine, core)
        last = 3
    w.way[e, last] = leaf_down(w, below, down)
    return last + 1
