"""Domains of the cluster's tree: how far apart two nodes are."""

from __future__ import annotations

from ..core.compile import kernel
from .plans import IN_POD, LEAF, NODE, ZONE


@kernel
def level_between(w, a, b):
    """Return the level of the narrowest domain that holds two nodes."""
    if a == b:
        return NODE
    if w.node_specs[a].leaf == w.node_specs[b].leaf:
        return LEAF
    return IN_POD if w.node_specs[a].pod == w.node_specs[b].pod else ZONE
