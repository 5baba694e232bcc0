"""vClos and OCS-vClos: a gang gets links of its own, so that it contends with nobody.

Source: Han et al., "Isolated Scheduling for Distributed Training Tasks in GPU Clusters", arXiv
2308.05692, and facts read in the authors' simulator (github.com/nothepeople/RapidNetSim). Steps:

====  ==========================================================================================
0     wait for GPUs: too few are free, or too few servers with min(g, n) free ones
1     a server or a single leaf, best fit, no links (:mod:`.servers`)
2     optical only: two leafs of n/2 GPUs each, the tightest
3     every GPU a link to one spine (:mod:`.single_spine`)
4, 5  a virtual Clos of L sub-leafs x S spines, L doubling (:mod:`.leafs`, :mod:`.links`); for
      powers of two the first L takes n / leaf GPUs wholly empty leafs, which is step 4
6     wait: the network is fragmented
====  ==========================================================================================

Ranks go sub-leaf by sub-leaf, S to each, and rank r sends by the link to spine r mod S. A step of a
ring, a shift by any distance or an exchange with rank r xor 2^t sends to each sub-leaf from S ranks
that differ mod S, so by S different spines: no link carries two flows.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from gpuyard.envs.cluster_view import Plan
from gpuyard.envs.hardware.cluster import Cluster

from ..room import Room, place
from .leafs import choose_leafs, shapes, sub_leaf_limit
from .links import choose_links
from .part import Offer, Part, offer, parts, whole
from .queue import GPUS, NETWORK, QueuePlanner
from .servers import enough_servers, single_leaf
from .single_spine import single_spine
from .solver import Solver

Layout = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]
"""Servers taken in each leaf (leafs,); uplink and spine of every rank (n,)."""


class BestFit(QueuePlanner):
    """Placement of the study's static baselines: best fit over servers, no links reserved.

    A gang takes servers that are wholly free, or below a server's size the fullest with room for
    it; ties go to the lowest number. Together with the scenario's routing and fidelity this is
    ECMP, balanced ECMP, source routing and, without contention, Best. Source: ``static_scheduler``
    of github.com/nothepeople/RapidNetSim, facts only.
    """

    def start(self, room: Room, gang: np.void, speeds: NDArray[np.float64]) -> Plan | str:
        """Return the start of a gang, or the reason why it must wait."""
        gpus = place(room, gang, speeds)
        return GPUS if gpus is None else room.start(gang, gpus)


class VClos(QueuePlanner):
    """vClos on fixed links: a leaf reaches a spine by its parallel links to it, and no other way.

    A gang that even an empty cluster could not isolate (beyond one leaf: sizes that are no multiple
    of a server's GPUs, primes among them, or more GPUs than leafs have uplinks for) is placed as
    :class:`BestFit` does, over links that nobody reserved.

    Args:
        order: see :class:`.queue.QueuePlanner`.
        time_limit_s: of one integer program.
        mip_gap: relative gap at which its solution is taken; the study's is 0.8.

    Raises:
        ValueError: an option out of range; in :meth:`plan`, a fabric that it is not made for.
    """

    needs = "scipy"
    optical = False
    links_per_spine = 1

    def __init__(
        self, *, order: str = "fifo", time_limit_s: float = 2.0, mip_gap: float = 0.8
    ) -> None:
        super().__init__(order=order)
        self.solver = Solver(time_limit_s, mip_gap)
        self._cluster: Cluster | None = None
        self._parts: list[Part] = []
        self._isolable: dict[tuple[int, int], bool] = {}

    def start(self, room: Room, gang: np.void, speeds: NDArray[np.float64]) -> Plan | str:
        """Return the start of a gang, or the reason why it must wait."""
        self._learn(room.cluster)
        size, required = int(gang["gpus"]), int(gang["required"])
        if required == 0:
            gpus = place(room, gang, speeds)
            return GPUS if gpus is None else room.start(gang, gpus)
        allowed = [part for part in self._parts if speeds[part.pool] > 0]
        offers = [(part, offer(room, part)) for part in allowed]
        offers.sort(key=lambda pair: (-speeds[pair[0].pool], pair[1].free.sum()))
        fitting = [
            (part, free)
            for part, free in offers
            if enough_servers(free.free.sum(axis=1), size, part.g)
        ]
        if not fitting:
            return GPUS
        slots = room.cluster.gpus_per_node
        for part, free in fitting:
            blocks = single_leaf(free.free, part.leaf, size)
            if blocks is not None:
                ranks = [part.nodes[server] * slots + block for server, block in blocks]
                return Plan(int(gang["id"]), np.concatenate(ranks))
        if required == 1:
            return GPUS
        for part, free in fitting:
            for layout in self._layouts(part, free, size):
                return self._reserve(int(gang["id"]), part, free, layout, slots)
        if any(self._could_isolate(part, size) for part in allowed):
            return NETWORK
        gpus = place(room, gang, speeds)
        return GPUS if gpus is None else room.start(gang, gpus)

    def _learn(self, cluster: Cluster) -> None:
        if cluster is self._cluster:
            return
        if cluster.fabric.optical != self.optical:
            remedy = "isolation/ocs-vclos" if cluster.fabric.optical else "isolation/vclos"
            raise ValueError(
                f"cluster {cluster.name!r} has a {cluster.fabric.kind!r} fabric: use {remedy}"
            )
        self._cluster, self._parts, self._isolable = cluster, parts(cluster), {}

    def _could_isolate(self, part: Part, size: int) -> bool:
        """Return whether an empty part could hold the gang."""
        key = (int(part.nodes[0]), size)
        if key not in self._isolable:
            assert self._cluster is not None
            empty = whole(self._cluster, part)
            fits = single_leaf(empty.free, part.leaf, size) is not None
            self._isolable[key] = fits or any(True for _ in self._layouts(part, empty, size))
        return self._isolable[key]

    def _layouts(self, part: Part, free: Offer, size: int) -> Iterator[Layout]:
        """Yield layouts beyond one leaf, in the order of the steps."""
        if size % part.g or not free.ports.size:
            return
        yield from self._two_leafs(part, free, size)
        yield from self._star(part, free, size)
        leafs, uplinks = free.uplinks.shape
        for sub_leafs, width in shapes(size, part.g, part.leaf_gpus, leafs, uplinks):
            yield from self._clos(part, free, sub_leafs, width)

    def _two_leafs(self, part: Part, free: Offer, size: int) -> Iterator[Layout]:
        """Step 2; see :class:`OpticalVClos`."""
        return iter(())

    def _star(self, part: Part, free: Offer, size: int) -> Iterator[Layout]:
        """Step 3."""
        servers = size // part.g
        star = single_spine(
            free.uplinks, free.empty, free.ports, free.spine_free, servers, part.g, self.solver
        )
        if star is not None:
            uplink = np.nonzero(star.links)[1]
            yield star.links.sum(axis=1) // part.g, uplink, np.full(size, star.spine)

    def _clos(self, part: Part, free: Offer, sub_leafs: int, width: int) -> Iterator[Layout]:
        """Yield the virtual Clos of ``sub_leafs`` x ``width``, if there is one."""
        open_uplinks = free.uplinks.sum(axis=1)
        limit = sub_leaf_limit(free.empty, open_uplinks, width, part.g, self._parallel)
        taken = choose_leafs(free.empty, limit, sub_leafs, width, part.g, self.solver)
        if taken is None:
            return
        links = choose_links(
            free.uplinks,
            taken,
            free.ports,
            free.spine_free,
            width,
            self.solver,
            self.links_per_spine,
        )
        if links is not None:
            spine = np.tile(links.spine, sub_leafs)
            yield taken * width // part.g, links.uplink.ravel(), spine

    @property
    def _parallel(self) -> int:
        """Most links from one leaf to one spine."""
        assert self._cluster is not None
        fabric = self._cluster.fabric
        return fabric.uplinks if self.optical else fabric.uplinks // max(fabric.spines, 1)

    def _reserve(self, gang: int, part: Part, free: Offer, layout: Layout, slots: int) -> Plan:
        """Return the plan that takes empty servers of each leaf, and the links of its ranks."""
        servers, uplink, spine = layout
        empty = free.free.all(axis=1)
        nodes = [
            part.nodes[np.flatnonzero(empty & (part.leaf == leaf))[: servers[leaf]]]
            for leaf in np.flatnonzero(servers)
        ]
        gpus = (np.concatenate(nodes)[:, None] * slots + np.arange(part.g)).ravel()
        return Plan(gang, gpus, uplink, spine if self.optical else None)


class OpticalVClos(VClos):
    """OCS-vClos: uplink k of every leaf ends at optical switch k, which joins it to any spine.

    The study joins the two leafs of step 2 directly, by n/2 circuits. Here optical switches join
    leafs to spines, so those two leafs form a virtual Clos 2 x n/2: the same rates, n ports of
    spines more.

    Args:
        order: see :class:`.queue.QueuePlanner`.
        time_limit_s: see :class:`VClos`.
        mip_gap: see :class:`VClos`.
        links_per_spine: most links of a sub-leaf to one spine, at least 1. The source has numbers
            y_j of virtual spines per spine, and also speaks of one link per sub-leaf and spine.
    """

    optical = True

    def __init__(
        self,
        *,
        order: str = "fifo",
        time_limit_s: float = 2.0,
        mip_gap: float = 0.8,
        links_per_spine: int = 1024,
    ) -> None:
        super().__init__(order=order, time_limit_s=time_limit_s, mip_gap=mip_gap)
        if links_per_spine < 1:
            raise ValueError(f"links_per_spine = {links_per_spine!r}: give 1 or more")
        self.links_per_spine = links_per_spine

    def _two_leafs(self, part: Part, free: Offer, size: int) -> Iterator[Layout]:
        """Step 2: the two leafs with the fewest empty servers that hold n/2 GPUs each."""
        half = size // 2
        if (
            size % 2 == 0
            and half % part.g == 0
            and half <= min(part.leaf_gpus, free.ports.shape[1])
        ):
            yield from self._clos(part, free, 2, half)
