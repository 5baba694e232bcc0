"""From a scenario with a cluster to the records and tables that the engine reads."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..engine.core.records import records
from ..engine.gangs.arrays import GangStatic
from ..engine.gangs.plans import PLAN_NAMES
from ..engine.gangs.records import FABRIC, GANG_CONFIG, KIND, NODE_SPEC, PHASE
from ..engine.network.names import FIDELITIES, ROUTINGS
from ..hardware.cluster import Cluster, Pool
from ..perf.training import gang_profile
from ..perf.training.gang_phases import seconds
from ..perf.training.gang_profile import GangProfile
from ..scenario import Scenario

IDLE_POWER = 0.15
"""Share of its TDP that an idle GPU draws (assumption; datasheets give none)."""


def build_static(scenario: Scenario, profiles: list[GangProfile]) -> GangStatic:
    """Turn a scenario into the records and tables that the engine reads."""
    cluster, jobs = scenario.cluster, scenario.jobs
    assert cluster is not None and jobs is not None
    fabric = cluster.fabric
    kinds, phases, speeds = _kinds(cluster, profiles)
    return GangStatic(
        config=_config(scenario, cluster),
        fabric=_fabric(scenario, cluster),
        specs=_specs(cluster),
        kinds=kinds,
        phases=phases,
        speeds=speeds,
        quotas=np.array(jobs.quotas, np.int32),
        leaf_pods=np.ascontiguousarray(cluster.leaf_pod, np.int32),
        leaf_pools=cluster.node_pool[_begin(cluster.node_leaf)[:-1]].astype(np.int32),
        leaf_begin=_begin(cluster.node_leaf),
        gpu_switch=np.ascontiguousarray(fabric.gpu_switch, np.int32),
        switch_pods=np.ascontiguousarray(fabric.switch_pod, np.int32),
        switch_begin=_begin(cluster.switch_leaf),
        capacity=np.ascontiguousarray(fabric.capacity, np.float64),
    )


def _begin(owner: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return where each owner's items begin, and the end; items are sorted by owner."""
    return np.searchsorted(owner, np.arange(int(owner.max()) + 2)).astype(np.int32)


def _config(scenario: Scenario, cluster: Cluster) -> NDArray[np.void]:
    rules, faults = scenario.scheduler, scenario.faults
    config = records(1, GANG_CONFIG)
    values = {
        "window": rules.window,
        "plans": len(PLAN_NAMES) - (not cluster.fabric.optical),
        "pools": len(cluster.pools),
        "running_rows": rules.running_rows if rules.preemption else 0,
        "aggregate": scenario.observation.aggregate,
        "preemption": rules.preemption,
        "preempt_s": rules.preempt_s,
        "checkpoint_s": rules.checkpoint_s,
        "failure_s": faults.node_mtbf_h * 3600.0,
        "repair_s": faults.repair_h * 3600.0,
        "straggler_share": faults.straggler_share,
        "straggler_speed": faults.straggler_speed,
    }
    for name, value in values.items():
        config[name] = value
    for term, weight in scenario.reward["place"].items():
        config[f"w_{term}"] = weight
    return config


def _fabric(scenario: Scenario, cluster: Cluster) -> NDArray[np.void]:
    fabric = cluster.fabric
    record = records(1, FABRIC)
    record[0] = (
        cluster.num_nodes,
        cluster.gpus_per_node,
        len(cluster.leaf_pod),
        int(fabric.switch_pod.max()) + 1,
        fabric.num_switches,
        fabric.uplinks,
        fabric.spines,
        fabric.core_uplinks,
        fabric.planes,
        fabric.spine_ports,
        fabric.optical,
        ROUTINGS.index(scenario.network.routing),
        scenario.network.queue_pairs,
        FIDELITIES.index(scenario.network.fidelity),
        fabric.reconfigure_s,
    )
    return record


def _specs(cluster: Cluster) -> NDArray[np.void]:
    """Return one NODE_SPEC record per node."""
    specs = records(cluster.num_nodes, NODE_SPEC)
    for number, pool in enumerate(cluster.pools):
        here = cluster.node_pool == number
        for name, value in {
            "pool": number,
            "gpus": pool.gpus_per_node,
            "nic_bytes_per_s": pool.nic_bytes_per_s,
            "scale_up_bytes_per_s": pool.scale_up_bytes_per_s,
            "memory_bytes": pool.gpu.memory_bytes,
            "price_per_h": pool.gpu.price_per_h,
            "idle_w": IDLE_POWER * pool.gpu.tdp_w,
            "busy_w": pool.gpu.tdp_w,
        }.items():
            specs[name][here] = value
    specs["leaf"] = cluster.node_leaf
    specs["pod"] = cluster.leaf_pod[cluster.node_leaf]
    return specs


def reference_pool(cluster: Cluster) -> int:
    """Return the pool whose GPU durations refer to: the one of highest 16-bit peak."""
    return int(np.argmax([pool.gpu.fp16_flops for pool in cluster.pools]))


def job_profiles(scenario: Scenario) -> list[GangProfile]:
    """Return a profile for every (profile, GPUs) of the scenario's jobs, in their order."""
    cluster, jobs = scenario.cluster, scenario.jobs
    assert cluster is not None and jobs is not None
    pool = cluster.pools[reference_pool(cluster)]
    return [
        gang_profile.profile(jobs.models.get(name, name), gpus, *_site(pool), pool.gpu)
        for name, gpus in jobs.sizes
    ]


def _site(pool: Pool) -> tuple[int, float, float]:
    """Return GPUs per node, and what a GPU gets of NICs and scale-up link when all send."""
    per_gpu = pool.nic_bytes_per_s * min(1.0, pool.nics_per_node / pool.gpus_per_node)
    return pool.gpus_per_node, per_gpu, pool.scale_up_bytes_per_s


def _kinds(
    cluster: Cluster, profiles: list[GangProfile]
) -> tuple[NDArray[np.void], NDArray[np.void], NDArray[np.float64]]:
    """Return KIND (K,), PHASE (P,) and the speed of each kind on each pool (K, pools)."""
    pool = cluster.pools[reference_pool(cluster)]
    kinds = records(len(profiles), KIND)
    phases = records(max(1, sum(len(profile.phases) for profile in profiles)), PHASE)
    speeds = np.zeros((len(profiles), len(cluster.pools)))
    at = 0
    for row, profile in enumerate(profiles):
        comm_s = seconds(profile.phases, profile.gpus, *_site(pool))
        nominal_s = profile.compute_s + max(0.0, comm_s - profile.hidden_s)
        kinds[row] = (
            profile.gpus,
            at,
            len(profile.phases),
            profile.compute_s,
            profile.hidden_s,
            profile.memory_bytes,
            profile.load,
            nominal_s,
            min(comm_s / nominal_s, 1.0),
        )
        for phase in profile.phases:
            phases[at] = (phase.ranks, phase.stride, phase.shift, phase.mode, phase.bytes)
            at += 1
        speeds[row] = [gang_profile.speed(profile, other.gpu) for other in cluster.pools]
    return kinds, phases, speeds
