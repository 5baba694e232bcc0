"""The plans of the placement world, read slowly: which nodes each of them gives to a gang.

Written from the rules in words (``PLANS`` below, `docs/placement.md`), with sorting and sets in
place of the engine's counts; nothing here looks at the engine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpuyard.envs.hardware.cluster import LEVELS, Cluster

NODE, LEAF, POD, ZONE = range(len(LEVELS))
OWN_LINKS = ("isolated", "optical")
"""Plans that give a gang uplinks of its own: the same nodes with other links."""


@dataclass(frozen=True)
class Gang:
    """What a plan asks about a gang."""

    gpus: int
    required: int


@dataclass(frozen=True)
class Site:
    """What plans depend on at one moment.

    Attributes:
        cluster: the nodes and the tree that they stand in.
        free: free GPUs of every node; 0 on those that are down.
        lit: bool (S, U), uplinks of leaf switches that lead to a spine.
        unowned: bool (S, U), those that no gang has reserved.
        idle: bool (S, U), those that no running gang sends over.
        leaf_load: mean load of the links of each leaf's switches.
    """

    cluster: Cluster
    free: list[int]
    lit: NDArray[np.bool_]
    unowned: NDArray[np.bool_]
    idle: NDArray[np.bool_]
    leaf_load: list[float]

    def node_gpus(self, pool: int) -> int:
        return self.cluster.pools[pool].gpus_per_node

    def nodes(self, leaf: int) -> list[int]:
        return np.flatnonzero(self.cluster.node_leaf == leaf).tolist()

    def leaf_free(self, leaf: int) -> int:
        return sum(self.free[node] for node in self.nodes(leaf))

    def whole(self, leaf: int) -> list[int]:
        """Nodes of a leaf all of whose GPUs are free."""
        gpus = self.node_gpus(self.pool(leaf))
        return [node for node in self.nodes(leaf) if self.free[node] == gpus]

    def pool(self, leaf: int) -> int:
        return int(self.cluster.node_pool[self.nodes(leaf)[0]])

    def leafs(self, pool: int) -> list[int]:
        return [leaf for leaf in range(len(self.cluster.leaf_pod)) if self.pool(leaf) == pool]

    def pods(self, pool: int) -> list[list[int]]:
        """Leafs of each pod of a pool."""
        groups: dict[int, list[int]] = {}
        for leaf in self.leafs(pool):
            groups.setdefault(int(self.cluster.leaf_pod[leaf]), []).append(leaf)
        return list(groups.values())

    def switches(self, leaf: int) -> list[int]:
        return np.flatnonzero(self.cluster.switch_leaf == leaf).tolist()

    def unused(self, switch: int) -> set[int]:
        """Uplinks of a leaf switch that carry nothing and belong to nobody."""
        return set(np.flatnonzero(self.idle[switch] & self.unowned[switch]).tolist())

    def has_way_up(self, leaf: int) -> bool:
        """Every switch of the leaf has a lit uplink that nobody reserved."""
        return all((self.lit[s] & self.unowned[s]).any() for s in self.switches(leaf))


Share = list[tuple[int, int]]
"""Leafs in order, with how many nodes of each."""


def one_node(site: Site, gpus: int, plan: str, pool: int) -> list[int]:
    """The tightest node with room (`pack`) or the emptiest (`spread`); then so for its leaf."""
    sign = {"pack": 1, "spread": -1}.get(plan)
    if sign is None:
        return []
    fits = [
        (sign * site.free[node], sign * site.leaf_free(leaf), leaf, node)
        for leaf in site.leafs(pool)
        for node in site.nodes(leaf)
        if site.free[node] >= gpus
    ]
    return [min(fits)[-1]] if fits else []


def in_order(site: Site, leafs: list[int], nodes: int, plan: str) -> Share:
    """Take leaf after leaf, the next one chosen by the plan's rule; ties go to the first."""
    rooms = {leaf: len(site.whole(leaf)) for leaf in leafs if site.whole(leaf)}
    taken: Share = []
    while nodes > 0 and rooms:
        enough = [leaf for leaf, room in rooms.items() if room >= nodes]
        if plan == "least_loaded":
            leaf = min(rooms, key=lambda leaf: site.leaf_load[leaf])
        elif plan == "pod":
            leaf = min(rooms, key=lambda leaf: rooms[leaf])
        elif enough:  # the last one, as tight as possible
            leaf = min(enough, key=lambda leaf: rooms[leaf])
        else:
            leaf = max(rooms, key=lambda leaf: rooms[leaf])
        taken.append((leaf, min(rooms.pop(leaf), nodes)))
        nodes -= taken[-1][1]
    return taken if nodes == 0 else []


def dealt(site: Site, leafs: list[int], nodes: int) -> Share:
    """Deal nodes one by one over all leafs that have room left."""
    rooms = [len(site.whole(leaf)) for leaf in leafs]
    if sum(rooms) < nodes:
        return []
    turns = sorted((turn, i) for i, room in enumerate(rooms) for turn in range(room))[:nodes]
    each = [sum(i == at for _, at in turns) for i in range(len(leafs))]
    return [(leaf, count) for leaf, count in zip(leafs, each, strict=True) if count]


def tightest(groups: list[list[int]], site: Site, nodes: int) -> list[int]:
    """The group of leafs with the fewest whole nodes that are enough; the first of equal ones."""
    rooms = [sum(len(site.whole(leaf)) for leaf in group) for group in groups]
    fits = [(room, i) for i, room in enumerate(rooms) if room >= nodes]
    return groups[min(fits)[1]] if fits else []


def shared(site: Site, gang: Gang, plan: str, pool: int, nodes: int) -> Share:
    """Leafs of a plan whose links others may use as well."""
    if plan == "pack":
        leaf = tightest([[leaf] for leaf in site.leafs(pool)], site, nodes)
        if leaf:
            return [(leaf[0], nodes)]
    if gang.required == LEAF:  # the tightest leaf is all that is offered
        return []
    leafs = site.leafs(pool)
    if plan in ("pack", "pod") or gang.required == POD:
        pod = tightest(site.pods(pool), site, nodes)
        if gang.required == POD and not pod:
            return []
        leafs = pod or leafs
    taken = dealt(site, leafs, nodes) if plan == "spread" else in_order(site, leafs, nodes, plan)
    reachable = len(taken) == 1 or all(site.has_way_up(leaf) for leaf, _ in taken)
    return taken if reachable else []


def own_links(site: Site, gang: Gang, plan: str, pool: int, nodes: int) -> Share:
    """Equal shares of as few leafs of one pod as can be joined by links that nobody uses.

    Not for gangs that leave GPUs of a node over or that one leaf can hold.
    """
    node_gpus = site.node_gpus(pool)
    is_optical = site.cluster.fabric.optical
    if gang.required < POD or gang.gpus % node_gpus or (plan == "optical") != is_optical:
        return []
    if any(len(site.whole(leaf)) >= nodes for leaf in site.leafs(pool)):
        return []
    for pod in site.pods(pool):
        for count in range(2, min(nodes, len(pod)) + 1):
            if nodes % count:
                continue
            leafs = joined(site, pod, count, nodes // count, node_gpus, is_optical)
            if leafs:
                return [(leaf, nodes // count) for leaf in leafs]
    return []


def joined(
    site: Site, pod: list[int], count: int, share: int, node_gpus: int, is_optical: bool
) -> list[int]:
    """The ``count`` tightest leafs with ``share`` nodes and an unused uplink for each GPU.

    Circuits can be set to any spine; wires must be the same ones on each leaf, rail by rail.
    """
    rails = len(site.switches(pod[0]))
    need = share * node_gpus // rails
    able = [
        (len(site.whole(leaf)), leaf)
        for leaf in pod
        if len(site.whole(leaf)) >= share
        and all(len(site.unused(switch)) >= need for switch in site.switches(leaf))
    ]
    leafs = [leaf for _, leaf in sorted(able)[:count]]
    if len(leafs) < count:
        return []
    for rail in range(0 if is_optical else rails):
        common = set.intersection(*(site.unused(site.switches(leaf)[rail]) for leaf in leafs))
        if len(common) < need:
            return []
    return leafs


PLANS: dict[str, Callable[[Site, Gang, str, int, int], Share]] = {
    "pack": shared,
    "fewest_leafs": shared,
    "pod": shared,
    "spread": shared,
    "least_loaded": shared,
    "isolated": own_links,
    "optical": own_links,
}


def nodes_of(site: Site, gang: Gang, plan: str, pool: int) -> list[int]:
    """Nodes that a plan gives to a gang, in the order of its ranks; empty: there is no plan."""
    node_gpus = site.node_gpus(pool)
    if gang.gpus <= node_gpus:
        return one_node(site, gang.gpus, plan, pool)
    if gang.required == NODE:
        return []
    nodes = -(-gang.gpus // node_gpus)
    share = PLANS[plan](site, gang, plan, pool, nodes)
    return [node for leaf, count in share for node in site.whole(leaf)[:count]]


def plans_of(site: Site, gang: Gang, pool: int) -> dict[str, list[int]]:
    """Nodes by plan, without plans that would choose the nodes of an earlier one."""
    found: dict[str, list[int]] = {}
    for plan in PLANS:
        nodes = nodes_of(site, gang, plan, pool)
        again = any(set(nodes) == set(other) for other in found.values())
        if nodes and (plan in OWN_LINKS or not again):
            found[plan] = nodes
    return found
