"""Links of a virtual Clos (ILP-B of vClos) and of a gang on a single spine.

One description serves both fabrics. ``ports[j, k]`` counts the links that spine j may still get
through uplink number k of the leafs. With fixed links only ``k % A == j`` has any, one for every
leaf. With optical switches uplink k of every leaf ends at optical switch k, and the spine's free
ports there are what counts. Source: vClos simulator (github.com/nothepeople/RapidNetSim), facts
only.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .solver import Solver

Ints = NDArray[np.integer]
Bools = NDArray[np.bool_]


class Links(NamedTuple):
    """Links of L sub-leafs to S spines.

    Attributes:
        spine: int64 (S,), all different.
        uplink: int64 (L, S), uplink of its leaf by which a sub-leaf reaches each spine.
    """

    spine: NDArray[np.int64]
    uplink: NDArray[np.int64]


def choose_links(
    free: Bools, sub_leafs: Ints, ports: Ints, spine_free: Ints, spines: int, solver: Solver
) -> Links | None:
    """ILP-B: S spines with a link to every sub-leaf, so that the fullest spines are used.

    Minimise the free ports of the spines used. Every sub-leaf has one link to each of them, a free
    uplink is used once, and a spine's ports at an optical switch suffice. No sum over S spines is
    lower than that of the S fullest ones that have a port for every sub-leaf; a set whose links are
    found by matching is taken at once if it is within the solver's gap of that bound.

    Args:
        free: bool (leafs, U), free uplinks.
        sub_leafs: int (leafs,), sub-leafs carved from each.
        ports: int (A, U), see above.
        spine_free: int (A,), free ports of each spine.
        spines: S.
        solver: limits of the program.

    Returns:
        The links, sub-leafs in order of their leafs, or None.
    """
    used = np.flatnonzero(sub_leafs)
    free, sub_leafs = free[used], sub_leafs[used]
    usable = np.minimum(free[:, None, :], ports[None, :, :])  # links of a leaf to a spine, 0 or 1
    reach = (usable.sum(axis=2) >= sub_leafs[:, None]).all(axis=0)
    eligible = np.flatnonzero(reach & (ports.sum(axis=1) >= sub_leafs.sum()))
    if len(eligible) < spines:
        return None
    eligible = eligible[np.argsort(spine_free[eligible], kind="stable")]
    bound = spine_free[eligible[:spines]].sum()
    for chosen in (eligible[:spines], eligible[-spines:]):
        if solver.close_enough(float(spine_free[chosen].sum()), float(bound)):
            uplink = _match(free, sub_leafs, ports[chosen])
            if uplink is not None:
                return Links(chosen, uplink)
    return _program(free, sub_leafs, ports[eligible], spine_free, eligible, spines, solver)


def _match(free: Bools, sub_leafs: Ints, ports: Ints) -> NDArray[np.int64] | None:
    """Match spines to uplinks, one leaf after the other, or return None.

    The free uplinks of a leaf with m sub-leafs are cut into m rows of equal length, and a spine
    gets one column: so the links to any two spines alternate along the leaf's uplinks, and flows
    that come down by the link next to their receiver's own never meet. Ports of which more are left
    are preferred. Where every spine has the same number of ports at every optical switch and leafs
    are taken whole, what is left is a regular bipartite graph after every leaf, so there always is
    a next matching (Konig).
    """
    from scipy.optimize import linear_sum_assignment

    ports, found = ports.astype(np.int64), [np.zeros((0, 0), np.int64)] * len(free)
    never = 1 + int(ports.max()) * ports.size
    for leaf in np.argsort(free.sum(axis=1), kind="stable"):
        rows, offered = int(sub_leafs[leaf]), np.flatnonzero(free[leaf])
        length = len(offered) // rows
        uplink = offered[: rows * length].reshape(rows, length)
        left = ports[:, uplink]  # (S, rows, length)
        cost = np.where((left > 0).all(axis=1), -left.sum(axis=1), never)
        spine, column = linear_sum_assignment(cost)
        if len(spine) < len(ports) or (cost[spine, column] == never).any():
            return None
        found[leaf] = uplink[:, column]
        for row in found[leaf]:
            ports[spine, row] -= 1
    return np.concatenate(found)


def _program(
    free: Bools,
    sub_leafs: Ints,
    ports: Ints,
    spine_free: Ints,
    eligible: NDArray[np.int64],
    spines: int,
    solver: Solver,
) -> Links | None:
    """ILP-B itself over the eligible spines.

    Binary c[i, j, k]: leaf i reaches spine j by its uplink k; y[j]: spine j is used. The sub-leafs
    of one leaf are alike, so a leaf has ``sub_leafs[i]`` links to every spine used, which are dealt
    out among them afterwards.
    """
    from scipy import sparse

    leaf, spine, k = np.nonzero(free[:, None, :] & (ports > 0)[None])
    links, leafs, (candidates, uplinks) = len(leaf), len(free), ports.shape
    column = np.arange(links)

    def count(group: Ints, groups: int) -> sparse.csr_matrix:
        rows = sparse.csr_matrix((np.ones(links), (group, column)), (groups, links))
        return sparse.hstack([rows, sparse.csr_matrix((groups, candidates))], format="csr")

    per_pair = count(leaf * candidates + spine, leafs * candidates)
    asked = sparse.kron(sub_leafs[:, None].astype(float), sparse.eye(candidates))
    per_pair -= sparse.hstack([sparse.csr_matrix((leafs * candidates, links)), asked])
    total = np.concatenate([np.zeros(links), np.ones(candidates)])[None]
    rows = sparse.vstack(
        [
            per_pair,
            count(leaf * uplinks + k, leafs * uplinks),
            count(spine * uplinks + k, candidates * uplinks),
            sparse.csr_matrix(total),
        ],
        format="csr",
    )
    pairs, rest = leafs * candidates, leafs * uplinks + candidates * uplinks
    found = solver.minimise(
        cost=np.concatenate([np.zeros(links), spine_free[eligible]]),
        rows=rows,
        lower=np.concatenate([np.zeros(pairs), np.full(rest, -np.inf), [spines]]),
        upper=np.concatenate(
            [np.zeros(pairs), np.ones(leafs * uplinks), ports.ravel().astype(float), [spines]]
        ),
        most=np.ones(links + candidates),
    )
    if found is None:
        return None
    chosen = np.flatnonzero(found[links:])
    on = np.flatnonzero(found[:links])
    by_leaf = [
        np.stack([k[on][(leaf[on] == i) & (spine[on] == j)] for j in chosen], axis=1)
        for i in range(leafs)
    ]
    return Links(eligible[chosen], np.concatenate(by_leaf))
