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
    bound = float(spine_free[eligible[:spines]].sum())
    bundles = [_bundles(*each, ports) for each in zip(free, sub_leafs.tolist(), strict=True)]
    for chosen in (eligible[:spines], eligible[-spines:]):
        if solver.close_enough(float(spine_free[chosen].sum()), bound):
            uplink = _match(bundles, ports[chosen])
            if uplink is not None:
                return Links(chosen, uplink)
    return _program(bundles, ports[eligible], spine_free[eligible], eligible, spines, solver)


def _bundles(free: Bools, sub_leafs: int, ports: Ints) -> NDArray[np.int64]:
    """Bundle the free uplinks of a leaf: one to the same spine for each of its m sub-leafs.

    A flow comes down by the gang's next link to that spine, counted from its receiver's own uplink.
    So that flows to different sub-leafs never meet, the links to any two spines must alternate
    along the leaf's uplinks. Uplinks that may lead anywhere are therefore cut into m rows of equal
    length, a column being a bundle; else a bundle is m parallel links to one spine.

    Returns:
        int64 (m, bundles).
    """
    offered = np.flatnonzero(free)
    if sub_leafs > 1 and ((ports > 0).sum(axis=0) <= 1).all():
        spine = ports[:, offered].argmax(axis=0)
        parallel = [offered[spine == j][:sub_leafs] for j in range(len(ports))]
        whole = [links for links in parallel if len(links) == sub_leafs]
        return np.array(whole, np.int64).reshape(-1, sub_leafs).T
    length = len(offered) // sub_leafs
    return offered[: sub_leafs * length].reshape(sub_leafs, length)


def _match(bundles: list[NDArray[np.int64]], ports: Ints) -> NDArray[np.int64] | None:
    """Match spines to bundles, one leaf after the other, or return None.

    Ports of which more are left are preferred. Where every spine has the same number of ports at
    every optical switch and leafs are taken whole, what is left is a regular bipartite graph after
    every leaf, so there always is a next matching (Konig).
    """
    from scipy.optimize import linear_sum_assignment

    ports, found = ports.astype(np.int64), list(bundles)
    never = 1 + int(ports.max()) * ports.size
    for leaf in np.argsort([bundle.shape[1] for bundle in bundles], kind="stable"):
        left = ports[:, bundles[leaf]]  # (S, m, bundles)
        cost = np.where((left > 0).all(axis=1), -left.sum(axis=1), never)
        spine, bundle = linear_sum_assignment(cost)
        if len(spine) < len(ports) or (cost[spine, bundle] == never).any():
            return None
        found[leaf] = bundles[leaf][:, bundle]
        for row in found[leaf]:
            ports[spine, row] -= 1
    return np.concatenate(found)


def _program(
    bundles: list[NDArray[np.int64]],
    ports: Ints,
    spine_free: Ints,
    names: NDArray[np.int64],
    spines: int,
    solver: Solver,
) -> Links | None:
    """ILP-B itself: binary c[i, j, b], leaf i reaches spine j by its bundle b; y[j], j is used."""
    from scipy import sparse

    candidates, uplinks = ports.shape
    per_leaf = [np.nonzero((ports[:, each] > 0).all(axis=1)) for each in bundles]
    leaf = np.repeat(np.arange(len(bundles)), [len(spine) for spine, _ in per_leaf])
    spine, bundle = (np.concatenate(each) for each in zip(*per_leaf, strict=True))
    first = np.concatenate([[0], np.cumsum([each.shape[1] for each in bundles])])
    ports_taken = [bundles[i][:, b] for i, b in zip(leaf, bundle, strict=True)]
    choice = np.repeat(np.arange(len(leaf)), [len(each) for each in ports_taken])
    k = np.concatenate(ports_taken) if ports_taken else np.zeros(0, np.int64)

    def count(group: Ints, column: Ints, groups: int) -> sparse.csr_matrix:
        shape = (groups, len(leaf))
        return sparse.csr_matrix((np.ones(len(group)), (group, column)), shape)

    every = np.arange(len(leaf))
    pairs = len(bundles) * candidates
    rows = sparse.bmat(
        [
            [
                count(leaf * candidates + spine, every, pairs),
                -sparse.kron(np.ones((len(bundles), 1)), sparse.eye(candidates)),
            ],
            [count(first[leaf] + bundle, every, first[-1]), None],
            [count(spine[choice] * uplinks + k, choice, ports.size), None],
            [None, sparse.csr_matrix(np.ones((1, candidates)))],
        ],
        format="csr",
    )
    found = solver.minimise(
        cost=np.concatenate([np.zeros(len(leaf)), spine_free]),
        rows=rows,
        lower=np.concatenate([np.zeros(pairs), np.full(first[-1] + ports.size, -np.inf), [spines]]),
        upper=np.concatenate([np.zeros(pairs), np.ones(first[-1]), ports.ravel(), [spines]]),
        most=np.ones(len(leaf) + candidates),
    )
    if found is None:
        return None
    chosen = np.flatnonzero(found[len(leaf) :])
    uplink = [np.zeros((len(each), spines), np.int64) for each in bundles]
    for c in np.flatnonzero(found[: len(leaf)]):
        at = np.searchsorted(chosen, spine[c])
        uplink[leaf[c]][:, at] = bundles[leaf[c]][:, bundle[c]]
    return Links(names[chosen], np.concatenate(uplink))
