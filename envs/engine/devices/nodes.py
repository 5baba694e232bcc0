"""Free GPUs: per node, and per leaf as a histogram of its nodes, kept as gangs come and go."""

from __future__ import annotations

import math

from ..core.compile import kernel
from ..core.owners import DOWN, FREE


@kernel
def count_node(w, e, node, sign):
    """Add a node that is up to the counts of its leaf and of the world, or take it out."""
    spec = w.node_specs[node]
    free = w.node_free[e, node]
    w.leaf_hist[e, spec.leaf, free] += sign
    w.devices[e].free_gpus += sign * free
    if 0 < free < spec.gpus:
        w.devices[e].partial_gpus += sign * free


@kernel
def take_gpu(w, e, gpu, owner):
    """Give a free GPU to a gang."""
    node = gpu // w.fabric[0].gpus_per_node
    w.gpu_owner[e, gpu] = owner
    count_node(w, e, node, -1)
    w.node_free[e, node] -= 1
    count_node(w, e, node, 1)


@kernel
def give_gpu(w, e, gpu):
    """Take a GPU from its gang; on a failed node it stays unusable."""
    node = gpu // w.fabric[0].gpus_per_node
    if w.repairs[e, node] < math.inf:
        w.gpu_owner[e, gpu] = DOWN
        return
    w.gpu_owner[e, gpu] = FREE
    count_node(w, e, node, -1)
    w.node_free[e, node] += 1
    count_node(w, e, node, 1)


@kernel
def take_node_down(w, e, node, until_s):
    """Let a node fail; its gangs must have been stopped."""
    count_node(w, e, node, -1)
    first = node * w.fabric[0].gpus_per_node
    w.repairs[e, node] = until_s
    w.node_free[e, node] = 0
    for gpu in range(first, first + w.node_specs[node].gpus):
        w.gpu_owner[e, gpu] = DOWN
    w.devices[e].down_gpus += w.node_specs[node].gpus


@kernel
def bring_node_up(w, e, node):
    """Repair a node."""
    first = node * w.fabric[0].gpus_per_node
    w.repairs[e, node] = math.inf
    w.node_free[e, node] = w.node_specs[node].gpus
    for gpu in range(first, first + w.node_specs[node].gpus):
        w.gpu_owner[e, gpu] = FREE
    count_node(w, e, node, 1)
    w.devices[e].down_gpus -= w.node_specs[node].gpus


@kernel
def node_in_leaf(w, e, leaf, need, most):
    """Return the node of ``leaf`` with the least free GPUs, but ``need``, or with the most; -1."""
    best = -1
    for node in range(w.leaf_begin[leaf], w.leaf_begin[leaf + 1]):
        free = w.node_free[e, node]
        if free < need:
            continue
        if best < 0:
            best = node
        elif most:
            if free > w.node_free[e, best]:
                best = node
        elif free < w.node_free[e, best]:
            best = node
    return best
