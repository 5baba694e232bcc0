"""Room for gangs, the devices they run on and what they send, and the state they start in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...hardware.cluster import LEVELS
from ..core.owners import DOWN, FREE
from ..core.records import fill, record_of, records
from ..devices.records import DEVICES
from ..network import arrays as network
from .records import GANGS, JOB, UNSEEN


@dataclass(frozen=True)
class GangStatic:
    """What all environments of a batch share; shapes stand in :mod:`gpuyard.envs.engine.state`."""

    gang_rules: NDArray[np.void]
    fault_rules: NDArray[np.void]
    fabric: NDArray[np.void]
    node_specs: NDArray[np.void]
    kinds: NDArray[np.void]
    patterns: NDArray[np.void]
    phases: NDArray[np.void]
    speeds: NDArray[np.float64]
    queue_limit: NDArray[np.int32]
    queue_parent: NDArray[np.int32]
    queue_deserved: NDArray[np.int32]
    deserving: NDArray[np.int32]
    leaf_pods: NDArray[np.int32]
    leaf_pools: NDArray[np.int32]
    leaf_begin: NDArray[np.int32]
    gpu_switch: NDArray[np.int32]
    gpu_port: NDArray[np.int32]
    switch_pods: NDArray[np.int32]
    switch_begin: NDArray[np.int32]
    capacity: NDArray[np.float64]
    traffic: NDArray[np.void]

    @property
    def num_candidates(self) -> int:
        """Rows of plans, of running gangs that may be stopped, waiting, and a plan of one's own."""
        rules = self.gang_rules[0]
        return int(rules["window"] * rules["plans"] * rules["pools"] + rules["running_rows"] + 2)

    @property
    def num_seen(self) -> int:
        """Devices that are observed: GPUs, or leafs if those are aggregated."""
        return len(self.leaf_pods if self.gang_rules[0]["aggregate"] else self.gpu_switch)

    @property
    def num_seen_links(self) -> int:
        """Links that are observed: each, or leafs if those are aggregated."""
        fabric = self.fabric[0]
        wires = fabric["nodes"] + fabric["switches"] * fabric["uplinks"]
        wires += fabric["pods"] * fabric["spines"] * fabric["core_uplinks"]
        return len(self.leaf_pods) if self.gang_rules[0]["aggregate"] else 2 * int(wires)


def allocate(
    static: GangStatic,
    num_envs: int,
    num_jobs: int,
    once: int = 0,
    once_gpus: int = 0,
    replicas: int = 0,
) -> dict[str, NDArray[Any]]:
    """Return the arrays of gangs by name; call :func:`load` for each environment.

    Args:
        static: what all environments share.
        num_envs: E.
        num_jobs: J, jobs per episode.
        once: T, transfers of services at once.
        once_gpus: at one end of these at most.
        replicas: R, which send where they lie on several nodes.
    """
    e, fabric = num_envs, static.fabric[0]
    gpus, leafs, nodes = len(static.gpu_switch), len(static.leaf_pods), len(static.node_specs)
    uplinks = (e, len(static.switch_pods), int(fabric["uplinks"]))
    queues = (e, len(static.queue_limit))
    integers: dict[str, tuple[int, ...]] = {
        **dict.fromkeys(("gpu_owner", "gpu_next", "gpu_uplink", "order"), (e, gpus)),
        **dict.fromkeys(("proposed_gpus", "proposed_uplinks", "proposed_circuits"), (e, gpus)),
        **dict.fromkeys(("leaf_gangs", "leaf_uplinks", "chosen", "counts"), (e, leafs)),
        **dict.fromkeys(("uplink_owner", "circuits"), uplinks),
        "node_free": (e, nodes),
        "leaf_hist": (e, leafs, int(fabric["gpus_per_node"]) + 1),
        "ports": (e, int(fabric["spines"]), int(fabric["uplinks"])),
        **dict.fromkeys(("queue_gpus", "queue_asked"), queues),
        "proposal": (e, 2),
        **dict.fromkeys(("proposed_stops", "listed"), (e, num_jobs)),
        "level_room": (e, int(static.gang_rules[0]["pools"]), len(LEVELS)),
        "window": (e, int(static.gang_rules[0]["window"])),
    }
    floats: dict[str, tuple[int, ...]] = {
        **dict.fromkeys(("queue_due_gpu_s", "queue_got_gpu_s"), queues),
        **dict.fromkeys(("node_speed", "repairs"), (e, nodes)),
        **dict.fromkeys(("used_memory", "used_load"), (e, static.num_seen)),
        "leaf_load": (e, leafs),
    }
    return {
        "gangs": records(e, GANGS),
        "devices": records(e, DEVICES),
        "jobs": records((e, num_jobs), JOB),
        **{name: np.zeros(shape, np.int32) for name, shape in integers.items()},
        **{name: np.zeros(shape) for name, shape in floats.items()},
        "feasible": np.zeros((e, static.num_candidates), np.int8),
        "plan_ids": np.zeros((e, static.num_candidates), np.int64),
        "gpu_mark": np.zeros((e, gpus), np.int64),
        **network.allocate(
            num_envs,
            num_jobs + replicas,
            static.capacity,
            static.gpu_switch,
            len(static.switch_pods),
            fabric,
            static.patterns,
            static.phases,
            once,
            once_gpus,
        ),
    }


def load(
    arrays: dict[str, NDArray[Any]],
    static: GangStatic,
    e: int,
    jobs: NDArray[np.void],
    rng: np.random.Generator,
) -> None:
    """Empty the cluster of environment ``e`` and give it the jobs of its next episode.

    Args:
        arrays: from :func:`allocate`.
        static: what all environments share.
        e: the environment.
        jobs: JOB (J,), gangs of services, then jobs as they arrive; see :func:`new_jobs`.
        rng: seeds path hashing, failures and stragglers.
    """
    specs, fabric, faults = static.node_specs, static.fabric[0], static.fault_rules[0]
    arrays["gangs"][e] = _NEW_GANGS
    arrays["gangs"]["num_jobs"][e] = len(jobs)
    services = int((jobs["service"] >= 0).sum())
    arrays["gangs"]["services"][e] = arrays["gangs"]["arrived"][e] = services
    devices = arrays["devices"]
    devices[e] = _NEW_DEVICES
    devices["free_gpus"][e] = devices["total_gpus"][e] = int(specs["gpus"].sum())
    devices["power_w"][e] = (specs["idle_w"] * specs["gpus"]).sum()
    seeds = rng.integers(2**63, size=2, dtype=np.uint64)
    arrays["network"]["hash_seed"][e], devices["random"][e] = seeds
    arrays["jobs"][e, : len(jobs)] = jobs
    fill(arrays["senders"][e], _NEW_SENDER)
    arrays["senders"]["iterations_left"][e, : len(jobs)] = jobs["iterations"]
    exists = np.arange(int(fabric["gpus_per_node"])) < specs["gpus"][:, None]
    arrays["gpu_owner"][e] = np.where(exists, FREE, DOWN).ravel()
    arrays["gpu_uplink"][e] = -1
    arrays["node_free"][e] = specs["gpus"]
    slow = rng.random(len(specs)) < faults["straggler_share"]
    arrays["node_speed"][e] = np.where(slow, faults["straggler_speed"], 1.0)
    arrays["leaf_hist"][e] = 0
    np.add.at(arrays["leaf_hist"][e], (specs["leaf"], specs["gpus"]), 1)
    arrays["uplink_owner"][e] = FREE
    uplinks = np.arange(arrays["circuits"].shape[2])
    arrays["circuits"][e] = -1 if fabric["optical"] else uplinks % int(fabric["spines"])
    arrays["repairs"][e] = np.inf
    arrays["proposal"][e] = (-1, 0)
    for name in ("leaf_gangs", "ports", "used_memory", "used_load", "gpu_mark"):
        arrays[name][e] = 0
    for name in ("queue_gpus", "queue_asked", "queue_due_gpu_s", "queue_got_gpu_s"):
        arrays[name][e] = 0


def new_jobs(count: int) -> NDArray[np.void]:
    """Return JOB records (count,) that have not arrived yet; the caller fills the first fields."""
    jobs = records(count, JOB)
    fill(jobs, _NEW_JOB)
    return jobs


_NEW_GANGS = record_of(GANGS, queue_head=-1, queue_tail=-1, running_head=-1, stopped_s=-np.inf)
_NEW_DEVICES = record_of(DEVICES, next_failure_s=np.inf, next_repair_s=np.inf)
_NEW_SENDER = record_of(network.SENDER, first_gpu=-1, heap_at=-1)
_NEW_JOB = record_of(
    JOB,
    status=UNSEEN,
    next=-1,
    before=-1,
    position=-1,
    scale=1.0,
    comm_scale=1.0,
    pool=-1,
    profile=-1,
    service=-1,
    required=3,
    preferred=1,
    start_s=np.nan,
    first_start_s=np.nan,
    finish_s=np.nan,
    stopped_s=np.nan,
)
