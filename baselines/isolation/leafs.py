"""Shape of a virtual Clos and choice of its leafs (ILP-A of vClos).

A virtual Clos of L sub-leafs and S spines serves L x S GPUs: each sub-leaf has S GPUs in whole
servers and one link to each of S spines. Source: vClos simulator
(github.com/nothepeople/RapidNetSim), facts only.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import gcd

import numpy as np
from numpy.typing import NDArray

from .solver import Solver

Ints = NDArray[np.integer]


def shapes(
    size: int, server_gpus: int, leaf_gpus: int, leafs: int, uplinks: int
) -> Iterator[tuple[int, int]]:
    """Yield the (L, S) to try for a gang, L doubling from max(odd part, size / GPUs per leaf).

    512 GPUs on leafs of 64: (8, 64), (16, 32), (32, 16) ...; 192 = 3 x 64: (3, 64), (6, 32) ...
    No shape for a size that is not a multiple of the GPUs of a server, so for no prime above it.

    Args:
        size: GPUs of the gang.
        server_gpus: GPUs of a server.
        leaf_gpus: GPUs under a leaf switch.
        leafs: leaf switches there are; L stops there.
        uplinks: of a leaf; no sub-leaf has more.
    """
    if size % server_gpus:
        return
    sub_leafs = size // (size & -size)
    while size % sub_leafs == 0 and sub_leafs <= leafs:
        if sub_leafs > 1 and size // sub_leafs <= min(leaf_gpus, uplinks):
            yield sub_leafs, size // sub_leafs
        sub_leafs *= 2


def sub_leaf_limit(
    empty: Ints, free_uplinks: Ints, spines: int, server_gpus: int, parallel: int
) -> NDArray[np.int64]:
    """Return how many sub-leafs of ``spines`` GPUs each leaf can offer, int64 (leafs,).

    The source's bound floor(empty servers / max(1, S / g)), and the leaf's free uplinks.

    Args:
        empty: int (leafs,), wholly free servers.
        free_uplinks: int (leafs,).
        spines: S.
        server_gpus: g.
        parallel: most links from one leaf to one spine.
    """
    by_servers = empty * server_gpus // spines if spines >= server_gpus else empty
    return np.minimum(np.minimum(by_servers, free_uplinks // spines), parallel).astype(np.int64)


def choose_leafs(
    empty: Ints, limit: Ints, sub_leafs: int, spines: int, server_gpus: int, solver: Solver
) -> NDArray[np.int64] | None:
    """ILP-A: sub-leafs to carve from each leaf, so that the tightest leafs are used.

    Minimise the empty servers of the leafs used (before the gang takes its own), with at most
    ``limit`` sub-leafs per leaf, whole servers in each leaf and ``sub_leafs`` in all. Where a leaf
    offers one unit at most, the leafs with the fewest empty servers are an optimum.

    Args:
        empty: int (leafs,), wholly free servers.
        limit: int (leafs,), see :func:`sub_leaf_limit`.
        sub_leafs: L.
        spines: S.
        server_gpus: g.
        solver: limits of the program.

    Returns:
        int64 (leafs,) with sum L, or None if there is no choice.
    """
    unit = server_gpus // gcd(spines, server_gpus)  # sub-leafs that fill whole servers
    units, needed = np.asarray(limit) // unit, sub_leafs // unit
    if sub_leafs % unit or units.sum() < needed:
        return None
    if units.max() <= 1:
        offering = np.flatnonzero(units)
        tightest = offering[np.argsort(empty[offering], kind="stable")[:needed]]
        chosen = np.zeros(len(units), np.int64)
        chosen[tightest] = unit
        return chosen
    taken = _fewest_empty(np.asarray(empty), units, needed, solver)
    return None if taken is None else (taken * unit).astype(np.int64)


def _fewest_empty(empty: Ints, units: Ints, needed: int, solver: Solver) -> Ints | None:
    """Minimise sum of used_i * empty_i with sum of t_i = needed and t_i <= units_i * used_i."""
    from scipy import sparse

    leafs = len(empty)
    rows = sparse.bmat(
        [
            [sparse.eye(leafs), -sparse.diags(units.astype(float))],
            [sparse.csr_matrix(np.ones((1, leafs))), None],
        ],
        format="csr",
    )
    found = solver.minimise(
        cost=np.concatenate([np.zeros(leafs), empty]),
        rows=rows,
        lower=np.append(np.full(leafs, -np.inf), needed),
        upper=np.append(np.zeros(leafs), needed),
        most=np.concatenate([units, np.ones(leafs)]),
    )
    return None if found is None else found[:leafs]
