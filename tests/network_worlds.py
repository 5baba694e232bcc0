"""Small networks built by hand, and a run of jobs on them whose GPUs and starts are given."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuyard.envs.engine.core.compile import entry
from gpuyard.envs.engine.core.owners import FREE
from gpuyard.envs.engine.core.records import records
from gpuyard.envs.engine.core.units import addresses
from gpuyard.envs.engine.devices.records import NODE_SPEC
from gpuyard.envs.engine.network.arrays import allocate, reset, switch_ports
from gpuyard.envs.engine.network.links import FABRIC
from gpuyard.envs.engine.network.names import FLUID, SOURCE
from gpuyard.envs.engine.network.once import recall
from gpuyard.envs.engine.network.records import PATTERN, PHASE
from gpuyard.envs.engine.network.traffic import (
    enter,
    leave,
    move_on,
    next_event_s,
    progress,
    settle,
)
from gpuyard.envs.engine.state import STATE

UNITS = ("enter", "leave", "settle", "move_on", "recall")


@dataclass(frozen=True)
class Net:
    """A fabric of equal parts: nodes under leaf switches under spines, maybe pods under a core."""

    leafs: int = 2
    nodes_per_leaf: int = 2
    gpus_per_node: int = 2
    rails: int = 1
    uplinks: int = 2
    spines: int = 2
    leafs_per_pod: int = 0
    core_uplinks: int = 0
    planes: int = 1
    optical: int = 0
    queue_pairs: int = 1
    nic: float = 100.0
    node: float = math.inf  # all NICs of a node; inf: as many as it has GPUs
    scale_up: float = 1000.0
    uplink: float = 100.0
    core: float = 100.0
    ports: tuple[float, ...] = ()  # bytes/s of links beyond the fabric's
    routing: int = SOURCE
    fidelity: int = FLUID

    @property
    def gpus(self) -> int:
        return self.leafs * self.nodes_per_leaf * self.gpus_per_node


@dataclass(frozen=True)
class Kind:
    """A type of job; phases are (ranks, stride, shift, mode, bytes)."""

    gpus: int
    compute_s: float
    phases: tuple[tuple[int, int, int, int, float], ...]
    hidden_s: float = 0.0


@dataclass
class Run:
    """A network with jobs, all of them senders; starts in ``starts``, GPUs by rank in ``gpus``."""

    net: Net
    kinds: list[Kind]
    num_jobs: int
    seed: int = 0
    once: int = 0  # one-shot senders at once
    arrays: dict[str, NDArray[Any]] = field(init=False)
    jobs: NDArray[Any] = field(init=False)
    load: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        self.arrays = state(self.net, self.kinds, self.num_jobs, self.seed, self.once)
        self._table = STATE.table(self.arrays)
        self.jobs, self.load = self.arrays["senders"][0], self.arrays["link_rate"][0]
        self._do(RESET)

    def set_job(self, j: int, kind: int, iterations: float) -> None:
        job = self.jobs[j]
        job["pattern"], job["ranks"] = kind, self.kinds[kind].gpus
        job["iterations_left"], job["scale"], job["comm_scale"] = iterations, 1.0, 1.0
        job["speed"] = 1.0

    def give_gpus(self, j: int, gpus: list[int]) -> None:
        self.jobs["first_gpu"][j] = gpus[0]
        self.arrays["gpu_next"][0, gpus] = [*gpus[1:], -1]

    def enter(self, j: int, gpus: list[int], now_s: float) -> None:
        self.give_gpus(j, gpus)
        self._do(ENTER, j, now_s)

    def leave(self, j: int, now_s: float) -> None:
        self._do(LEAVE, j, now_s)

    def settle(self, now_s: float) -> None:
        self._do(SETTLE, -1, now_s)

    def next_event_s(self) -> float:
        return self._do(NEXT)

    def advance(self, now_s: float) -> int:
        return int(self._do(ADVANCE, -1, now_s))

    def recall(self, k: int, now_s: float) -> None:
        self._do(RECALL, k, now_s)

    def progress(self, j: int, now_s: float) -> float:
        return self._do(PROGRESS, j, now_s)

    def _do(self, what: int, j: int = -1, now_s: float = 0.0) -> float:
        return do(self._table.ctypes.data, what, j, now_s)

    def replay(
        self, starts: NDArray[np.float64], gpus: list[list[int]]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Run jobs in the order of their numbers, each on its GPUs; return when each ran.

        Args:
            starts: float64 (J,), ascending; a job starts later if its GPUs are still in use.
            gpus: of each job, in rank order.

        Returns:
            Starts and ends, float64 (J,).
        """
        begin = np.cumsum([0, *(len(each) for each in gpus)])
        times = np.full((2, len(starts)), np.nan)
        busy = np.zeros(self.net.gpus, np.int32)
        flat = np.concatenate(gpus).astype(np.int32)
        replay(self._table.ctypes.data, starts, begin, flat, busy, times)
        return times[0], times[1]


def state(
    net: Net, kinds: list[Kind], num_jobs: int, seed: int = 0, once: int = 0
) -> dict[str, NDArray[Any]]:
    """Return the arrays of one environment that the network reads."""
    nodes = net.leafs * net.nodes_per_leaf
    switches = net.leafs * net.rails
    node_leaf = np.arange(nodes) // net.nodes_per_leaf
    slot = np.arange(net.gpus_per_node)
    gpu_switch = (node_leaf[:, None] * net.rails + slot % net.rails).ravel().astype(np.int32)
    per_pod = net.leafs_per_pod or net.leafs
    pods = -(-net.leafs // per_pod)
    fabric = records(1, FABRIC)
    for name, value in {
        "nodes": nodes,
        "gpus_per_node": net.gpus_per_node,
        "leafs": net.leafs,
        "pods": pods,
        "switches": switches,
        "uplinks": net.uplinks,
        "spines": net.spines,
        "core_uplinks": net.core_uplinks,
        "hops": 4 if net.core_uplinks else 2,
        "planes": net.planes,
        "optical": net.optical,
        "routing": net.routing,
        "queue_pairs": net.queue_pairs,
        "fidelity": net.fidelity,
    }.items():
        fabric[name] = value
    specs = records(nodes, NODE_SPEC)
    specs["leaf"], specs["pod"] = node_leaf, node_leaf // per_pod
    specs["gpus"], specs["nic_bytes_per_s"] = net.gpus_per_node, net.nic
    specs["scale_up_bytes_per_s"] = net.scale_up
    kind_rows = records(len(kinds), PATTERN)
    phase_rows = records(max(1, sum(len(kind.phases) for kind in kinds)), PHASE)
    at = 0
    for row, kind in zip(kind_rows, kinds, strict=True):
        row["ranks"], row["first_phase"], row["num_phases"] = kind.gpus, at, len(kind.phases)
        row["compute_s"], row["hidden_s"] = kind.compute_s, kind.hidden_s
        for phase in kind.phases:
            phase_rows[at] = phase
            at += 1
    capacity = np.concatenate(
        [
            np.full(2 * nodes, min(net.node, net.nic * net.gpus_per_node)),
            np.full(2 * switches * net.uplinks, net.uplink),
            np.full(2 * pods * net.spines * net.core_uplinks, net.core),
            net.ports,
        ]
    )
    gpus = len(gpu_switch)
    circuits = np.broadcast_to(np.arange(net.uplinks) % net.spines, (1, switches, net.uplinks))
    known = {
        "units": addresses(UNITS, STATE),
        "fabric": fabric,
        "node_specs": specs,
        "patterns": kind_rows,
        "phases": phase_rows,
        "gpu_switch": gpu_switch,
        "switch_pods": (np.arange(switches) // net.rails // per_pod).astype(np.int32),
        "capacity": capacity,
        "gpu_port": switch_ports(gpu_switch),
        "gpu_next": np.full((1, gpus), -1, np.int32),
        "gpu_uplink": np.full((1, gpus), -1, np.int32),
        "uplink_owner": np.full((1, switches, net.uplinks), FREE, np.int32),
        "circuits": circuits.astype(np.int32).copy(),
        "order": np.zeros((1, gpus), np.int32),
    }
    known |= allocate(
        *(1, num_jobs, capacity, gpu_switch, switches, fabric[0], kind_rows, phase_rows),
        *(once, net.gpus_per_node),
    )
    known["network"]["hash_seed"] = np.random.default_rng(seed).integers(2**63, dtype=np.uint64)
    return known


arrays_at = STATE.at
RESET, ENTER, LEAVE, SETTLE, ADVANCE, NEXT, PROGRESS, RECALL = range(8)


@entry
def do(address, what, j, now_s):
    """Call one function of the network; a way in for Python."""
    w = arrays_at(address)
    if what == RESET:
        reset(w, 0)
    elif what == ENTER:
        enter(w, 0, j, now_s)
    elif what == LEAVE:
        leave(w, 0, j, now_s)
    elif what == SETTLE:
        settle(w, 0, now_s)
    elif what == ADVANCE:
        return float(move_on(w, 0, now_s))
    elif what == NEXT:
        return next_event_s(w, 0)
    elif what == PROGRESS:
        return progress(w, 0, j, now_s)
    elif what == RECALL:
        recall(w, 0, j, now_s)
    return 0.0


@entry
def replay(address, starts, begin, gpus, busy, times):
    """Start each job at its time on its GPUs, once they are free, and write down when it ran."""
    w = arrays_at(address)
    at, now_s = 0, 0.0
    while True:
        start_s = math.inf
        if at < len(starts):
            start_s = max(starts[at], now_s)
            for index in range(begin[at], begin[at + 1]):
                if busy[gpus[index]] == 1:
                    start_s = math.inf
        event_s = next_event_s(w, 0)
        now_s = min(event_s, start_s)
        if now_s == math.inf:
            return
        if event_s <= start_s:
            j = move_on(w, 0, now_s)
            if j < 0:
                continue
            leave(w, 0, j, now_s)
            times[1, j] = now_s
            for index in range(begin[j], begin[j + 1]):
                busy[gpus[index]] = 0
        else:
            j, at = at, at + 1
            first, end = begin[j], begin[j + 1]
            w.senders[0, j].first_gpu = gpus[first]
            for index in range(first, end):
                busy[gpus[index]] = 1
                w.gpu_next[0, gpus[index]] = gpus[index + 1] if index + 1 < end else -1
            enter(w, 0, j, now_s)
            times[0, j] = now_s
        settle(w, 0, now_s)
