"""The fabric: its numbers, and those of its links, which ``hardware.cluster.Fabric`` knows too.

Directed links stand one group behind the other: node up (N), node down (N), leaf switch to spine
(switches x U), spine to leaf switch (switches x U), and in three tiers pod to core (pods x A x V)
and core to pod (pods x A x V). Behind them stand ports: links that belong to no fabric, for whoever
shares NICs or scale-up links with nobody but its own transfers.
"""

from __future__ import annotations

import numpy as np

from ..core.compile import kernel

FABRIC = np.dtype(  # one record for the whole world
    [
        ("nodes", "i4"),  # N
        ("gpus_per_node", "i4"),  # of the largest node; smaller nodes leave slots unused
        ("leafs", "i4"),  # placement domains: nodes under the same leaf switch or rail group
        ("pods", "i4"),
        ("switches", "i4"),  # leaf switches; in a rail-optimised fabric one per group and rail
        ("uplinks", "i4"),  # U, per leaf switch
        ("spines", "i4"),  # A, per pod; two tiers: spines of the one pod; three: aggregation
        ("core_uplinks", "i4"),  # V, per aggregation switch; 0 in two tiers
        ("hops", "i4"),  # links between leaf switches that one part of a flow crosses, at most
        ("planes", "i4"),  # 2: a GPU's NIC has a port in each of two disjoint planes of spines
        ("spine_ports", "i4"),  # ports of a spine towards leafs, over all optical switches
        ("optical", "i4"),  # 1: uplink k of every leaf switch ends at optical switch k
        ("routing", "i4"),
        ("queue_pairs", "i4"),  # parts of a flow that are hashed on their own
        ("fidelity", "i4"),
        ("reconfigure_s", "f8"),  # of an optical switch
    ]
)


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


@kernel
def num_links(w):
    """Return how many links the fabric has; ports follow."""
    fabric = w.fabric[0]
    return core_down(w, fabric.pods, 0, 0)
