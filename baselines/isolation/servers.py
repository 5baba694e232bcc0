"""Step 1 of vClos: a gang under one leaf switch, on as few servers as its buddy groups allow.

Source: vClos simulator (github.com/nothepeople/RapidNetSim), facts only: the leaf with the fewest
free GPUs that still fits the gang; GPUs come from buddy groups; the gang is split over 1, 2, 4, ...
servers of the leaf.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def enough_servers(server_free: NDArray[np.integer], size: int, server_gpus: int) -> bool:
    """Step 0: ``size`` GPUs are free, and ceil(size / g) servers have min(g, size) free ones."""
    per_server = min(size, server_gpus)
    servers = -(-size // server_gpus)
    return bool(server_free.sum() >= size and (server_free >= per_server).sum() >= servers)


def buddy_block(free: NDArray[np.bool_], count: int) -> NDArray[np.int64] | None:
    """Return ``count`` GPUs of a server from its smallest free buddy group that holds them.

    A buddy group of 2^b GPUs begins at a multiple of 2^b. With GPUs 0, 2 and 3 of four free, a
    gang of one takes GPU 0 and leaves the pair 2, 3 whole.

    Args:
        free: bool (g,), GPUs of the server.
        count: at least 1.
    """
    width = min(1 << (count - 1).bit_length(), len(free))
    best, best_width = -1, len(free) + 1
    for start in range(0, len(free), width):
        if not free[start : start + width].all():
            continue
        whole = width  # grows to the free buddy group around it
        while whole < len(free):
            wider = start // (2 * whole) * 2 * whole
            if not free[wider : wider + 2 * whole].all():
                break
            whole *= 2
        if whole < best_width:
            best, best_width = start, whole
    return None if best < 0 else np.arange(best, best + count)


def split(free: NDArray[np.bool_], size: int) -> list[tuple[int, NDArray[np.int64]]] | None:
    """Place ``size`` GPUs on servers of a leaf: first on as few as can be, then on twice as many.

    Each server gives one buddy group, the last one the remainder; servers with the fewest free
    GPUs come first.

    Args:
        free: bool (servers, g).
        size: at least 1.

    Returns:
        Servers and their GPUs in rank order, or None.
    """
    order = np.argsort(free.sum(axis=1), kind="stable").tolist()
    per_server = min(size, free.shape[1])
    while True:
        blocks, left = [], size
        for server in order:
            block = buddy_block(free[server], min(per_server, left))
            if block is not None:
                blocks.append((server, block))
                left -= len(block)
            if left == 0:
                return blocks
        if per_server == 1:
            return None
        per_server = 1 << ((per_server - 1).bit_length() - 1)


def single_leaf(
    free: NDArray[np.bool_], leaf: NDArray[np.integer], size: int
) -> list[tuple[int, NDArray[np.int64]]] | None:
    """Return servers and GPUs of the fullest leaf that holds the gang, or None.

    Args:
        free: bool (servers, g).
        leaf: int (servers,), numbered from 0.
        size: GPUs of the gang.
    """
    leaf_free = np.bincount(leaf, weights=free.sum(axis=1))
    for candidate in np.argsort(leaf_free, kind="stable"):
        if leaf_free[candidate] < size:
            continue
        servers = np.flatnonzero(leaf == candidate)
        blocks = split(free[servers], size)
        if blocks is not None:
            return [(int(servers[server]), block) for server, block in blocks]
    return None
