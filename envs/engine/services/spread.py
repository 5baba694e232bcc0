"""What a replica's steps cost where its gang lies: ranks on several nodes talk over NICs."""

from __future__ import annotations

from ..core.compile import kernel
from .handover import gpu_of_replica, node_of


@kernel
def kind_there(w, e, r, spec):
    """Return the row of the cost tables for a replica whose gang has its devices.

    The rows after ``spec.kind`` are for half as many of its devices on a node, a quarter and so on;
    its steps are as slow as if all nodes had as few as the one with the fewest.
    """
    kind, on_a_node, fewest = spec.kind, spec.node_gpus, fewest_on_a_node(w, e, r, spec)
    while on_a_node > fewest:
        on_a_node //= 2
        kind += 1
    return kind


@kernel
def fewest_on_a_node(w, e, r, spec):
    """Return the fewest devices that a replica has on one of its nodes."""
    first = gpu_of_replica(w, e, r)
    gpu, fewest = first, spec.gpus
    for _ in range(spec.gpus):
        other, here = first, 0
        for _ in range(spec.gpus):
            here += node_of(w, other) == node_of(w, gpu)
            other = int(w.gpu_next[e, other])
        fewest = min(fewest, here)
        gpu = int(w.gpu_next[e, gpu])
    return fewest
