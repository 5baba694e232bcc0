"""What gangs do to links, read slowly, where routes and rates can be reckoned by hand.

That is with `routing = "source"`, where the sending GPU's place under its leaf switch says which
uplink a flow takes, and `fidelity = "none"`, where no gang slows another.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpuyard.envs.hardware.cluster import Cluster
from gpuyard.envs.perf.training.gang_profile import GangProfile

Uplink = tuple[int, int]
"""Leaf switch and number of one of its uplinks."""


@dataclass(frozen=True)
class Load:
    """A running gang: its GPUs in rank order, what it trains and how fast its nodes compute.

    Attributes:
        gpus: in rank order.
        profile: what it trains.
        speed: of its slowest node, 1 = the pool to which ``profile`` refers.
        comm_scale: factor on its bytes.
        own: uplinks that it reserved, none if it shares them.
        barred: uplinks that it could not take when it started: others had reserved them.
    """

    gpus: list[int]
    profile: GangProfile
    speed: float
    comm_scale: float
    own: frozenset[Uplink] = frozenset()
    barred: frozenset[Uplink] = frozenset()


class Network:
    """A cluster's links, by the numbers that the observation gives them."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster, self.fabric = cluster, cluster.fabric
        self.nodes, self.slots = cluster.num_nodes, cluster.gpus_per_node
        self.switch = cluster.fabric.gpu_switch.tolist()
        wires = self.fabric.num_switches * self.fabric.uplinks
        cores = self.fabric.core_bytes_per_s.size
        sizes = [self.nodes, self.nodes, wires, wires, cores, cores]
        self.begin = np.cumsum([0, *sizes]).tolist()

    def node(self, gpu: int) -> int:
        return gpu // self.slots

    def port(self, gpu: int) -> int:
        """Place of a GPU among those of its leaf switch."""
        return self.switch[:gpu].count(self.switch[gpu])

    def ideal_s(self, load: Load) -> float:
        """Seconds of an iteration if no two flows ever met."""
        return load.profile.compute_s / load.speed + self.exposed_s(load)

    def comm_s(self, load: Load) -> float:
        """Seconds of communication in it: each phase as fast as its slowest flow could be."""
        total = 0.0
        for phase in load.profile.phases:
            rates = [self.flow_rate(load.gpus[a], load.gpus[b]) for a, b in pairs(load, phase)]
            total += phase.bytes * load.comm_scale / min(rates) if rates else 0.0
        return total

    def exposed_s(self, load: Load) -> float:
        """Communication that does not run beside the end of the compute."""
        hidden = min(load.profile.hidden_s, load.profile.compute_s) / load.speed
        return max(0.0, self.comm_s(load) - hidden)

    def flow_rate(self, source: int, target: int) -> float:
        """Most that one flow gets: scale-up link within a node, one NIC beyond."""
        pool = self.cluster.pools[self.cluster.node_pool[self.node(source)]]
        same = self.node(source) == self.node(target)
        return pool.scale_up_bytes_per_s if same else pool.nic_bytes_per_s

    def path(self, load: Load, source: int, target: int) -> list[int]:
        """Links of a flow that leaves its node."""
        begin, fabric = self.begin, self.fabric
        links = [begin[0] + self.node(source), begin[1] + self.node(target)]
        above, below = self.switch[source], self.switch[target]
        if above == below:
            return links
        up, down = self.uplinks(load, source, target)
        links += [begin[2] + above * fabric.uplinks + up, begin[3] + below * fabric.uplinks + down]
        pods = [int(fabric.switch_pod[above]), int(fabric.switch_pod[below])]
        if pods[0] != pods[1]:  # neighbouring switches use different core links
            parallel = fabric.uplinks // fabric.spines
            core = (above * parallel + up // fabric.spines) % fabric.core_uplinks
            for pod, group in zip(pods, (4, 5), strict=True):
                at = (pod * fabric.spines + up % fabric.spines) * fabric.core_uplinks + core
                links.append(begin[group] + at)
        return links

    def uplinks(self, load: Load, source: int, target: int) -> tuple[int, int]:
        """Uplinks by which a flow climbs and comes down: its own number or the next possible."""
        port = self.port(source) % self.fabric.uplinks
        wanted = [self.own(load, gpu) if load.own else port for gpu in (source, target)]
        above, below = self.switch[source], self.switch[target]
        for up in self.turn(wanted[0]):
            for down in self.turn(wanted[1]):
                same_spine = up % self.fabric.spines == down % self.fabric.spines
                if same_spine and self.may_use(load, (above, up), (below, down)):
                    return up, down
        raise AssertionError("no way at all: the tests' worlds have none such")

    def own(self, load: Load, gpu: int) -> int:
        """Uplink of a GPU: of those that its gang owns at the switch, the one of its turn."""
        switch = self.switch[gpu]
        own = sorted(uplink for at, uplink in load.own if at == switch)
        here = [other for other in load.gpus if self.switch[other] == switch]
        return own[here.index(gpu)]

    def turn(self, first: int) -> list[int]:
        return [(first + i) % self.fabric.uplinks for i in range(self.fabric.uplinks)]

    def may_use(self, load: Load, *uplinks: Uplink) -> bool:
        if load.own:
            return all(uplink in load.own for uplink in uplinks)
        return not any(uplink in load.barred for uplink in uplinks)

    def bytes_per_iteration(self, load: Load) -> NDArray[np.float64]:
        """Bytes that a gang puts on every link in an iteration, float64 (L,)."""
        total = np.zeros(len(self.fabric.capacity))
        for phase in load.profile.phases:
            for a, b in pairs(load, phase):
                source, target = load.gpus[a], load.gpus[b]
                if self.node(source) != self.node(target):
                    total[self.path(load, source, target)] += phase.bytes * load.comm_scale
        return total


def pairs(load: Load, phase) -> list[tuple[int, int]]:
    """Sending and receiving ranks of a phase."""
    source, target = phase.flows(len(load.gpus))
    return list(zip(source.tolist(), target.tolist(), strict=True))


def reckon(network: Network, loads: list[Load]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Share of every link in use, each gang running as if alone, and which uplinks carry anything.

    Float64 (L,) and bool (S, U): an uplink counts with both of its directions.
    """
    total = np.zeros(len(network.fabric.capacity))
    for load in loads:
        total += network.bytes_per_iteration(load) / network.ideal_s(load)
    ways = total[network.begin[2] : network.begin[4]].reshape(2, network.fabric.num_switches, -1)
    used = np.asarray((ways > 0).any(axis=0))
    return np.minimum(total / network.fabric.capacity, 1.0), used
