"""Which uplinks of leaf switches are unused, and circuits for gangs on optical fabrics.

Uplink k of every leaf switch ends at optical switch k, which joins it to a free port of any spine.
A gang on several leafs needs spines that all of them reach: as many as the leaf with the fewest of
its GPUs has GPUs. Where fewer are to be had than an idle fabric would give, the gang does not fit.

Circuits that follow one pattern (uplink k of switch s to spine k + s) never want the same port, so
they are preferred. The engine's plan ``optical`` is greedy in the same way, for equal shares.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpuyard.envs.cluster_view import FREE, ClusterView
from gpuyard.envs.hardware.cluster import Cluster

Ints = NDArray[np.int64]


class Links(NamedTuple):
    """Uplink and spine of every rank, int64 (n,), -1: it sends through those of the others."""

    uplink: Ints
    spine: Ints


class Uplinks:
    """Unused uplinks and ports of spines, to be tried out without touching the world.

    Attributes:
        cluster: the static cluster.
        unused: bool (S, U), uplinks of leaf switches that nobody reserved or sends over.
        shared: bool (S, U), those that nobody reserved.
        ports: int64 (spines, U), free ports of each spine at each optical switch.
    """

    def __init__(self, cluster: Cluster) -> None:
        fabric = cluster.fabric
        self.cluster = cluster
        self.unused = np.ones((fabric.num_switches, fabric.uplinks), bool)
        self.shared = self.unused.copy()
        each = -(-fabric.spine_ports // max(fabric.uplinks, 1))
        self.ports = np.full((fabric.spines, fabric.uplinks), each)

    @classmethod
    def of(cls, view: ClusterView) -> Uplinks:
        """Return the uplinks as they stand."""
        uplinks = cls(view.cluster)
        uplinks._count(view, (view.uplink_job != FREE) | (view.uplink_flows > 0), -1)
        uplinks.shared = view.uplink_job == FREE
        return uplinks

    def copy(self) -> Uplinks:
        """Return an independent copy."""
        twin = object.__new__(Uplinks)
        twin.cluster, twin.unused, twin.ports = self.cluster, self.unused.copy(), self.ports.copy()
        twin.shared = self.shared.copy()
        return twin

    def vacate(self, view: ClusterView, gang: int) -> None:
        """Give back the uplinks that a running gang owns."""
        self._count(view, view.uplink_job == gang, 1)
        self.shared |= view.uplink_job == gang

    def take(self, gpus: Ints, links: Links) -> None:
        """Set the circuits of a gang."""
        own = links.uplink >= 0
        uplink = links.uplink[own]
        self.unused[self.cluster.fabric.gpu_switch[gpus[own]], uplink] = False
        np.subtract.at(self.ports, (links.spine[own], uplink), 1)

    def join(self, gpus: Ints) -> Links | None:
        """Return links that join the leafs of a gang, or None if there are too few.

        None are needed under one leaf, nor on a fabric whose links are fixed, if only each switch
        of each leaf has one that nobody reserved.
        """
        cluster = self.cluster
        leaf = cluster.node_leaf[gpus // cluster.gpus_per_node]
        links = Links(np.full(len(gpus), -1), np.full(len(gpus), -1))
        leafs = np.unique(leaf)
        if len(leafs) == 1:
            return links
        if not cluster.fabric.optical:
            return links if self._have_ways_up(leafs) else None
        trial, rail = self.copy(), self._rails()[cluster.fabric.gpu_switch[gpus]]
        for number in np.unique(rail):
            ranks = [np.flatnonzero((leaf == each) & (rail == number)) for each in leafs]
            if not trial._join_rail(gpus, ranks, links):
                return None
        return links

    def _have_ways_up(self, leafs: NDArray[np.integer]) -> bool:
        """Return whether each switch of these leafs has an uplink that nobody reserved."""
        closed = np.flatnonzero(~self.shared.any(axis=1))
        if not len(closed):
            return True
        slots = np.flatnonzero(np.isin(self.cluster.fabric.gpu_switch, closed))
        return not np.isin(self.cluster.node_leaf[slots // self.cluster.gpus_per_node], leafs).any()

    def _join_rail(self, gpus: Ints, ranks: list[Ints], links: Links) -> bool:
        """Give the ranks of each leaf uplinks; False if too few spines reach all leafs.

        As many as the leaf with the fewest ranks has are needed. Further ranks of other leafs get
        further uplinks to the same spines, as far as there are any.
        """
        needed = min(map(len, ranks))
        if not needed:
            return False
        switches = self.cluster.fabric.gpu_switch[gpus[[own[0] for own in ranks]]].tolist()
        idle = Uplinks(self.cluster)
        common = self._bundles(switches, needed)
        if len(common) < needed and len(common) < len(idle._bundles(switches, needed)):
            return False
        for place, (switch, own) in enumerate(zip(switches, ranks, strict=True)):
            for index, rank in enumerate(own.tolist()):
                spine, uplinks = common[index % len(common)]
                uplink = uplinks[place] if index < len(common) else self._uplink(switch, spine)
                if uplink >= 0:
                    links.uplink[rank], links.spine[rank] = uplink, spine
        return True

    def _bundles(self, switches: list[int], wanted: int) -> list[tuple[int, list[int]]]:
        """Take up to ``wanted`` spines in turn, each with an uplink of every switch to it."""
        bundles: list[tuple[int, list[int]]] = []
        spines = np.argsort(-self.ports.sum(axis=1), kind="stable").tolist()
        while spines and len(bundles) < wanted:
            spine = spines.pop(0)
            uplinks = self._bundle(switches, spine)
            if uplinks is not None:
                bundles.append((spine, uplinks))
                spines.append(spine)
        return bundles

    def _bundle(self, switches: list[int], spine: int) -> list[int] | None:
        """Take an uplink of every switch to one spine; None, and nothing taken, if one has none."""
        taken: list[int] = []
        for switch in switches:
            uplink = self._uplink(switch, spine)
            if uplink < 0:
                for given, back in zip(switches, taken, strict=False):
                    self.unused[given, back] = True
                    self.ports[spine, back] += 1
                return None
            taken.append(uplink)
        return taken

    def _uplink(self, switch: int, spine: int) -> int:
        """Take an uplink of a switch to a spine, by the pattern if possible; -1: there is none."""
        spines, uplinks = self.ports.shape
        usable = self.unused[switch] & (self.ports[spine] > 0)
        pattern = usable & ((np.arange(uplinks) + switch) % spines == spine)
        if not usable.any():
            return -1
        uplink = int((pattern if pattern.any() else usable).argmax())
        self.unused[switch, uplink] = False
        self.ports[spine, uplink] -= 1
        return uplink

    def _rails(self) -> Ints:
        """Return which of its leaf's switches each switch is."""
        cluster = self.cluster
        switch = cluster.fabric.gpu_switch
        leaf = np.repeat(cluster.node_leaf, cluster.gpus_per_node)[switch >= 0]
        first = np.full(cluster.fabric.num_switches, np.iinfo(np.int64).max)
        np.minimum.at(first, leaf, switch[switch >= 0])
        rails = np.zeros(cluster.fabric.num_switches, np.int64)
        rails[switch[switch >= 0]] = switch[switch >= 0] - first[leaf]
        return rails

    def _count(self, view: ClusterView, uplinks: NDArray[np.bool_], sign: int) -> None:
        self.unused[uplinks] = sign > 0
        if self.cluster.fabric.optical:
            switch, uplink = np.nonzero(uplinks & (view.circuits >= 0))
            np.add.at(self.ports, (view.circuits[switch, uplink], uplink), sign)
