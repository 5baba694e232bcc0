"""How links are numbered, which is known here and in ``hardware.cluster.Fabric.capacity`` only.

Directed links stand one group behind the other: node up (N), node down (N), leaf switch to spine
(switches x U), spine to leaf switch (switches x U), and in three tiers pod to core (pods x A x V)
and core to pod (pods x A x V).
"""

from __future__ import annotations

from ..core.compile import kernel


@kernel
def node_up(w, node):
    """Return the link from a node into the fabric."""
    return node


@kernel
def node_down(w, node):
    """Return the link from the fabric to a node."""
    return w.fabric[0].nodes + node


@kernel
def leaf_up(w, switch, uplink):
    """Return the link from a leaf switch to the spine at the far end of one of its uplinks."""
    fabric = w.fabric[0]
    return 2 * fabric.nodes + switch * fabric.uplinks + uplink


@kernel
def leaf_down(w, switch, uplink):
    """Return the link that comes down to a leaf switch over one of its uplinks."""
    return leaf_up(w, switch, uplink) + w.fabric[0].switches * w.fabric[0].uplinks


@kernel
def core_up(w, pod, spine, core):
    """Return the link from a pod's spine to the core."""
    fabric = w.fabric[0]
    begin = 2 * fabric.nodes + 2 * fabric.switches * fabric.uplinks
    return begin + (pod * fabric.spines + spine) * fabric.core_uplinks + core


@kernel
def core_down(w, pod, spine, core):
    """Return the link from the core to a pod's spine."""
    fabric = w.fabric[0]
    return core_up(w, pod, spine, core) + fabric.pods * fabric.spines * fabric.core_uplinks


@kernel
def uplink_of(w, link):
    """Return (switch, uplink, 1 if the link goes up else 0); switch -1: no leaf switch's link."""
    fabric = w.fabric[0]
    at = link - 2 * fabric.nodes
    links = fabric.switches * fabric.uplinks
    if not 0 <= at < 2 * links:
        return -1, -1, 0
    up = 1 if at < links else 0
    if up == 0:
        at -= links
    return at // fabric.uplinks, at % fabric.uplinks, up
