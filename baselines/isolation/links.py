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
    """Links of L sub-leafs to S virtual spines.

    Attributes:
        spine: int64 (S,), spine of which each virtual one is a part.
        uplink: int64 (L, S), uplink of its leaf by which a sub-leaf reaches each virtual spine.
    """

    spine: NDArray[np.int64]
    uplink: NDArray[np.int64]


def choose_links(
    free: Bools,
    sub_leafs: Ints,
    ports: Ints,
    spine_free: Ints,
    width: int,
    solver: Solver,
    most: int = 1,
) -> Links | None:
    """ILP-B: S virtual spines with a link to every sub-leaf, so that the fullest spines are used.

    Minimise the free ports of the spines used; a spine is at most ``free ports // L`` virtual ones.
    Every sub-leaf has one link to each virtual spine, a free uplink is used once, and a spine's
    ports at an optical switch suffice. The cheapest choice by numbers of ports alone is a bound; it
    is taken at once if links for it are found by matching. So is another one within the solver's
    gap of the bound. Else the integer program decides, with spines undivided.

    Args:
        free: bool (leafs, U), free uplinks.
        sub_leafs: int (leafs,), sub-leafs carved from each.
        ports: int (A, U), see above.
        spine_free: int (A,), free ports of each spine.
        width: S.
        solver: limits of the program.
        most: virtual spines that one spine can be.

    Returns:
        The links, sub-leafs in order of their leafs, or None.
    """
    used = np.flatnonzero(sub_leafs)
    free, sub_leafs = free[used], sub_leafs[used]
    usable = np.minimum(free[:, None, :], ports[None, :, :])  # links of a leaf to a spine, 0 or 1
    by_leaf = (usable.sum(axis=2) // sub_leafs[:, None]).min(axis=0)
    parts = np.minimum(np.minimum(by_leaf, ports.sum(axis=1) // sub_leafs.sum()), most)
    cheapest = fewest_ports(spine_free, parts, width)
    if cheapest is None:
        return None
    bound = float(spine_free[cheapest > 0].sum())
    undivided, taken = np.minimum(parts, 1), spine_free.max() - spine_free
    for divided in (
        cheapest,
        fewest_ports(taken + 1, parts, width),
        fewest_ports(spine_free, undivided, width),
        fewest_ports(taken, undivided, width),
    ):
        if divided is None or not solver.close_enough(float(spine_free[divided > 0].sum()), bound):
            continue
        links = _match(free, sub_leafs, ports, divided)
        if links is not None:
            return links
    eligible = np.flatnonzero(parts)
    if len(eligible) < width:
        return None
    bundles = [_bundles(*each, ports) for each in zip(free, sub_leafs.tolist(), strict=True)]
    return _program(bundles, ports[eligible], spine_free[eligible], eligible, width, solver)


def fewest_ports(cost: Ints, parts: Ints, width: int) -> NDArray[np.int64] | None:
    """Divide spines into ``width`` virtual ones at the least cost of the spines used.

    Exact, by dynamic programming. A spine is 1, 2, 4 ... virtual ones, at most ``parts``, and their
    number divides ``width``.

    Returns:
        int64 (A,), virtual spines of each, or None.
    """
    best = np.full(width + 1, np.inf)
    best[0] = 0.0
    chosen = np.zeros((len(cost), width + 1), np.int64)
    for spine in np.flatnonzero(parts):
        before, share = best.copy(), 1
        while share <= parts[spine] and width % share == 0:
            with_it = before[:-share] + cost[spine]
            better = with_it < best[share:]
            best[share:][better] = with_it[better]
            chosen[spine, share:][better] = share
            share *= 2
    if np.isinf(best[width]):
        return None
    divided, left = np.zeros(len(cost), np.int64), width
    for last in range(len(cost) - 1, -1, -1):
        divided[last] = chosen[last, left]
        left -= int(divided[last])
    return divided


def _bundles(free: Bools, rows: int, ports: Ints) -> NDArray[np.int64]:
    """Bundle the free uplinks of a leaf, a bundle being what its ``rows`` rows give to one spine.

    A flow comes down by the gang's next link to that spine, counted from its receiver's own uplink.
    So that flows to different receivers never meet, the links to any two spines must alternate
    along the leaf's uplinks. Uplinks that may lead anywhere are therefore cut into rows of equal
    length, a column being a bundle; else a bundle is parallel links to one spine.

    Returns:
        int64 (rows, bundles).
    """
    offered = np.flatnonzero(free)
    if rows > 1 and ((ports > 0).sum(axis=0) <= 1).all():
        spine = ports[:, offered].argmax(axis=0)
        parallel = [offered[spine == j][:rows] for j in range(len(ports))]
        whole = [links for links in parallel if len(links) == rows]
        return np.array(whole, np.int64).reshape(-1, rows).T
    length = len(offered) // rows
    return offered[: rows * length].reshape(rows, length)


def _match(free: Bools, sub_leafs: Ints, ports: Ints, divided: Ints) -> Links | None:
    """Match virtual spines to uplinks, one leaf after the other, or return None.

    Each sub-leaf is as many rows of uplinks as the most divided spine is virtual ones. That spine
    fills a column; others share columns, each at every second, fourth ... row. Ports of which more
    are left are preferred. Where every spine has the same number of ports at every optical switch
    and leafs are taken whole, what is left is a regular bipartite graph after every leaf, so there
    always is a next matching (Konig).
    """
    from scipy.optimize import linear_sum_assignment

    order = np.argsort(-divided, kind="stable")
    rows = int(divided.max())
    columns = np.repeat(order, divided[order]).reshape(-1, rows)
    spine = np.empty_like(columns.T)  # (rows, columns): virtual spine = row * columns + column
    spine[_bit_reversed(rows)] = columns.T
    ports, found = ports.astype(np.int64), []
    never = 1 + int(ports.max()) * ports.size
    for leaf in range(len(free)):
        bundles = _bundles(free[leaf], rows * int(sub_leafs[leaf]), ports)
        own = np.tile(spine, (int(sub_leafs[leaf]), 1))  # (all rows of the leaf, columns)
        left = ports[own.T[:, :, None], bundles]  # (columns, rows, bundles)
        cost = np.where((left > 0).all(axis=1), -left.sum(axis=1), never)
        column, bundle = linear_sum_assignment(cost)
        if len(column) < len(columns) or (cost[column, bundle] == never).any():
            return None
        uplink = bundles[:, bundle]
        ports[own, uplink] -= 1
        found.append(uplink.reshape(int(sub_leafs[leaf]), -1))
    return Links(spine.ravel(), np.concatenate(found))


def _bit_reversed(count: int) -> NDArray[np.int64]:
    """Return 0 .. count-1 (a power of two) with bits reversed: 0, 4, 2, 6, 1, 5, 3, 7."""
    result = np.zeros(1, np.int64)
    while len(result) < count:
        result = np.concatenate([2 * result, 2 * result + 1])
    return result


def _program(
    bundles: list[NDArray[np.int64]],
    ports: Ints,
    spine_free: Ints,
    names: NDArray[np.int64],
    width: int,
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
        lower=np.concatenate([np.zeros(pairs), np.full(first[-1] + ports.size, -np.inf), [width]]),
        upper=np.concatenate([np.zeros(pairs), np.ones(first[-1]), ports.ravel(), [width]]),
        most=np.ones(len(leaf) + candidates),
    )
    if found is None:
        return None
    chosen = np.flatnonzero(found[len(leaf) :])
    uplink = [np.zeros((len(each), width), np.int64) for each in bundles]
    for c in np.flatnonzero(found[: len(leaf)]):
        at = np.searchsorted(chosen, spine[c])
        uplink[leaf[c]][:, at] = bundles[leaf[c]][:, bundle[c]]
    return Links(names[chosen], np.concatenate(uplink))
