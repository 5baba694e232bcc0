"""Small worlds for isolation planners: gangs come and go, and every plan is checked by hand."""

import numpy as np
from views import queue_table

from gpuyard.envs.cluster_view import FREE, GANG_VIEW, ClusterView, Plan
from gpuyard.envs.hardware.catalogue import gpu
from gpuyard.envs.hardware.cluster import Cluster
from gpuyard.envs.hardware.fabric import leaf_spine, pool


def leafs_and_spines(leafs, servers, g, spines, uplinks, **fields) -> Cluster:
    """Return ``leafs`` leafs of ``servers`` servers of ``g`` GPUs."""
    nodes = pool(gpu("V100-32"), leafs * servers, g, nic_gbit=100, scale_up_gbps=125)
    return leaf_spine(
        [nodes], nodes_per_leaf=servers, spines=spines, uplinks=uplinks, name="test", **fields
    )


class World:
    """Who holds what, as a planner sees it."""

    def __init__(self, cluster: Cluster):
        self.cluster, fabric = cluster, cluster.fabric
        self.gpu_job = np.full(cluster.num_nodes * cluster.gpus_per_node, FREE, np.int32)
        self.uplink_job = np.full((fabric.num_switches, fabric.uplinks), FREE, np.int32)
        wired = -1 if fabric.optical else np.arange(fabric.uplinks) % fabric.spines
        self.circuits = np.broadcast_to(wired, self.uplink_job.shape).astype(np.int32)
        self.pending: list[tuple] = []
        self.next_id = 0

    def submit(self, gpus, required=3) -> int:
        """Append a gang to the queue."""
        gang = np.zeros((), GANG_VIEW)
        gang["id"], gang["gpus"], gang["required"], gang["preferred"] = (
            self.next_id,
            gpus,
            required,
            3,
        )
        gang["pool"] = -1
        self.pending.append(gang)
        self.next_id += 1
        return self.next_id - 1

    def view(self) -> ClusterView:
        """Return what a planner sees."""
        pending = np.array(self.pending, GANG_VIEW) if self.pending else np.zeros(0, GANG_VIEW)
        return ClusterView(
            now_s=0.0,
            cluster=self.cluster,
            gpu_job=self.gpu_job.copy(),
            uplink_job=self.uplink_job.copy(),
            uplink_flows=np.zeros_like(self.uplink_job),
            circuits=self.circuits.copy(),
            link_load=np.zeros(len(self.cluster.fabric.capacity)),
            pending=pending,
            running=np.zeros(0, GANG_VIEW),
            speeds=np.ones((len(pending), 1)),
            running_speeds=np.zeros((0, 1)),
            queues=queue_table([{"limit": 10**6}]),
            queue_names=("all",),
            preemption=False,
        )

    def start(self, plan: Plan) -> None:
        """Check a plan and carry it out."""
        fabric = self.cluster.fabric
        (gang,) = [each for each in self.pending if each["id"] == plan.gang]
        gpus = np.asarray(plan.gpus)
        assert len(gpus) == gang["gpus"] == len(set(gpus.tolist()))
        assert (self.gpu_job[gpus] == FREE).all()
        self.gpu_job[gpus] = plan.gang
        if plan.uplinks is not None:
            switch = fabric.gpu_switch[gpus]
            assert len(set(zip(switch.tolist(), plan.uplinks.tolist(), strict=True))) == len(gpus)
            assert (self.uplink_job[switch, plan.uplinks] == FREE).all()
            self.uplink_job[switch, plan.uplinks] = plan.gang
            if fabric.optical:
                assert ((plan.circuits >= 0) & (plan.circuits < fabric.spines)).all()
                self.circuits[switch, plan.uplinks] = plan.circuits
                self.check_ports()
            else:
                assert plan.circuits is None
        self.pending = [each for each in self.pending if each["id"] != plan.gang]

    def check_ports(self) -> None:
        """No spine has more circuits at an optical switch than ports there."""
        fabric = self.cluster.fabric
        lit = np.zeros((fabric.spines, fabric.uplinks), int)
        switch, k = np.nonzero(self.uplink_job != FREE)
        np.add.at(lit, (self.circuits[switch, k], k), 1)
        assert lit.max(initial=0) <= fabric.spine_ports // fabric.uplinks

    def finish(self, gang: int) -> None:
        """Free what a gang holds."""
        self.gpu_job[self.gpu_job == gang] = FREE
        if self.cluster.fabric.optical:
            self.circuits[self.uplink_job == gang] = -1
        self.uplink_job[self.uplink_job == gang] = FREE


def steps(size, g):
    """Yield the collective steps of the study: each is a receiver for every rank."""
    ranks = np.arange(size)
    if size & (size - 1) == 0:  # halving-doubling
        for t in range(size.bit_length() - 1):
            yield ranks ^ (1 << t)
    yield (ranks + g) % size  # ring over servers
    for shift in range(1, size):  # ring (1) and pairwise exchange
        yield (ranks + shift) % size


def shared_links(world: World, plan: Plan) -> int:
    """Return the most flows that meet on a link between leaf and spine in any step of a gang.

    A flow climbs by the uplink of its sender and comes down by the next uplink of the gang, from
    the receiver's own on, that leads to the same spine.
    """
    fabric, slots = world.cluster.fabric, world.cluster.gpus_per_node
    gpus, uplinks = np.asarray(plan.gpus), np.asarray(plan.uplinks)
    switch = fabric.gpu_switch[gpus]
    spine = uplinks % fabric.spines if plan.circuits is None else plan.circuits
    own = {}
    for s, k, j in zip(switch.tolist(), uplinks.tolist(), spine.tolist(), strict=True):
        own.setdefault((s, j), []).append(k)
    worst = 0
    for receivers in steps(len(gpus), world.cluster.pools[0].gpus_per_node):
        used = {}
        for r, other in enumerate(receivers.tolist()):
            if gpus[r] // slots == gpus[other] // slots or switch[r] == switch[other]:
                continue
            below = own[int(switch[other]), int(spine[r])]
            down = min(below, key=lambda k: (k - uplinks[other]) % fabric.uplinks)
            for link in (
                ("up", int(switch[r]), int(uplinks[r])),
                ("down", int(switch[other]), down),
            ):
                used[link] = used.get(link, 0) + 1
        worst = max(worst, max(used.values(), default=0))
    return worst
