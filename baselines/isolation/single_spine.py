"""Step 3 of vClos: a gang whose every GPU has a link to one and the same spine.

Any permutation of its ranks is then free of contention. Source: vClos simulator
(github.com/nothepeople/RapidNetSim), facts only: a buddy group of ports of one spine; an integer
program over leafs takes whole servers and as few leafs as can be.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .solver import Solver

Ints = NDArray[np.integer]
Bools = NDArray[np.bool_]


class Star(NamedTuple):
    """Links of a gang to one spine.

    Attributes:
        spine: its number.
        links: bool (leafs, U), uplinks taken; g for every server of the leaf that is taken.
    """

    spine: int
    links: NDArray[np.bool_]


def single_spine(
    free: Bools, empty: Ints, ports: Ints, spine_free: Ints, servers: int, g: int, solver: Solver
) -> Star | None:
    """Join ``servers`` whole servers at one spine: the fullest that has the ports, or the freest.

    Args:
        free: bool (leafs, U), free uplinks.
        empty: int (leafs,), wholly free servers.
        ports: int (A, U), see :mod:`.links`.
        spine_free: int (A,), free ports of each spine.
        servers: servers of the gang.
        g: GPUs of a server.
        solver: limits of the program.
    """
    able = np.flatnonzero(spine_free >= servers * g)
    if len(able) == 0:
        return None
    able = able[np.argsort(spine_free[able], kind="stable")]
    for spine in dict.fromkeys((int(able[0]), int(able[-1]))):
        usable = free & (ports[spine] > 0)
        room = np.minimum(empty, usable.sum(axis=1) // g)
        if room.sum() < servers:
            continue
        links = _roomiest(usable, room, ports[spine], servers, g)
        if links is None:
            links = _program(usable, room, ports[spine], servers, g, solver)
        if links is not None:
            return Star(spine, links)
    return None


def _roomiest(usable: Bools, room: Ints, ports: Ints, servers: int, g: int) -> Bools | None:
    """Take the leafs with the most room, so surely the fewest; None if their links do not match."""
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import maximum_flow

    order = np.argsort(-room, kind="stable")
    taken = np.zeros(len(room), np.int64)
    before = np.concatenate([[0], np.cumsum(room[order])[:-1]])
    taken[order] = np.clip(servers - before, 0, room[order])
    # source -> leaf (its GPUs) -> uplink number (once per leaf) -> sink (ports of the spine there)
    leafs, uplinks = usable.shape
    source, sink = leafs + uplinks, leafs + uplinks + 1
    capacity = np.zeros((sink + 1, sink + 1), np.int32)
    capacity[source, :leafs] = g * taken
    capacity[:leafs, leafs:source] = usable
    capacity[leafs:source, sink] = ports
    result = maximum_flow(csr_matrix(capacity), source, sink)
    if result.flow_value < g * servers:
        return None
    return result.flow.toarray()[:leafs, leafs:source] > 0


def _program(
    usable: Bools, room: Ints, ports: Ints, servers: int, g: int, solver: Solver
) -> Bools | None:
    """Minimise the leafs used: binary c[i, k] links, s[i] servers, u[i] leaf used."""
    from scipy import sparse

    leafs, uplinks = usable.shape
    leaf, k = np.nonzero(usable)
    pairs = len(leaf)
    column = np.arange(pairs)

    def count(group: Ints, groups: int) -> sparse.csr_matrix:
        return sparse.csr_matrix((np.ones(pairs), (group, column)), (groups, pairs))

    one = sparse.eye(leafs)
    rows = sparse.bmat(
        [
            [count(leaf, leafs), -g * one, None],  # g links for every server
            [count(k, uplinks), None, None],  # ports of the spine
            [None, one, -sparse.diags(room.astype(float))],  # servers only in leafs used
            [None, np.ones((1, leafs)), np.zeros((1, leafs))],
        ],
        format="csr",
    )
    found = solver.minimise(
        cost=np.concatenate([np.zeros(pairs + leafs), np.ones(leafs)]),
        rows=rows,
        lower=np.concatenate([np.zeros(leafs), np.full(uplinks + leafs, -np.inf), [servers]]),
        upper=np.concatenate([np.zeros(leafs), ports, np.zeros(leafs), [servers]]),
        most=np.concatenate([np.ones(pairs), room, np.ones(leafs)]),
    )
    if found is None:
        return None
    links = np.zeros(usable.shape, bool)
    links[leaf, k] = found[:pairs] > 0
    return links
