"""From a scenario with a cluster to the records and tables that the engine reads."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..engine.core.records import fill_in, records, records_of
from ..engine.devices.records import FAULT_RULES, NODE_SPEC
from ..engine.gangs.arrays import GangStatic
from ..engine.gangs.plans import PLAN_NAMES
from ..engine.gangs.records import GANG_RULES, KIND
from ..engine.network.arrays import switch_ports
from ..engine.network.links import FABRIC
from ..engine.network.names import FIDELITIES, ROUTINGS
from ..engine.network.records import PATTERN, PHASE
from ..hardware.cluster import Cluster, Pool
from ..perf.training import gang_profile
from ..perf.training.gang_phases import seconds
from ..perf.training.gang_profile import GangProfile
from ..scenario import Scenario
from ..workload.jobs.queues import Queue
from .traffic import build_traffic

IDLE_POWER = 0.15
"""Share of its TDP that an idle GPU draws (assumption; datasheets give none)."""


def build_static(scenario: Scenario, profiles: list[GangProfile]) -> GangStatic:
    """Turn a scenario into the records and tables that the engine reads."""
    cluster, jobs = scenario.cluster, scenario.jobs
    assert cluster is not None and jobs is not None
    fabric = cluster.fabric
    gpu_switch = np.ascontiguousarray(fabric.gpu_switch, np.int32)
    queues = queues_of(scenario)
    deserved = np.array([queue.deserved for queue in queues], np.int32)
    return GangStatic(
        gang_rules=_gang_rules(scenario, cluster),
        fault_rules=records_of(FAULT_RULES, **vars(scenario.faults)),
        fabric=_fabric(scenario, cluster),
        node_specs=_node_specs(cluster),
        **_with_replicas(scenario, _with_services(scenario, _traffic(cluster, profiles))),
        queue_limit=np.array([queue.limit for queue in queues], np.int32),
        queue_parent=np.array([queue.parent for queue in queues], np.int32),
        queue_deserved=deserved,
        deserving=np.flatnonzero(deserved[: len(jobs.queues)]).astype(np.int32),
        leaf_pods=np.ascontiguousarray(cluster.leaf_pod, np.int32),
        leaf_pools=cluster.node_pool[_begin(cluster.node_leaf)[:-1]].astype(np.int32),
        leaf_begin=_begin(cluster.node_leaf),
        gpu_switch=gpu_switch,
        gpu_port=switch_ports(gpu_switch),
        switch_pods=np.ascontiguousarray(fabric.switch_pod, np.int32),
        switch_begin=_begin(cluster.switch_leaf),
        capacity=np.concatenate([fabric.capacity, *_ports(scenario)]).astype(np.float64),
    )


def _ports(scenario: Scenario) -> list[tuple[float, float]]:
    """Return bytes/s of each replica's ports, over its NICs and inside a node, if any sends."""
    roles = [role for service in scenario.services for role in service.roles]
    if not any(role.handover for role in roles):
        return []
    return [roles[slot.role].ports_bytes_per_s for slot in scenario.slots]


def _begin(owner: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return where each owner's items begin, and the end; items are sorted by owner."""
    return np.searchsorted(owner, np.arange(int(owner.max()) + 2)).astype(np.int32)


def _gang_rules(scenario: Scenario, cluster: Cluster) -> NDArray[np.void]:
    rules = scenario.scheduler
    if not rules.preemption:  # no running gang can be chosen
        rules = replace(rules, running_rows=0)
    return records_of(
        GANG_RULES,
        **vars(rules),
        plans=len(PLAN_NAMES) - (not cluster.fabric.optical),
        pools=len(cluster.pools),
        aggregate=scenario.observation.aggregate,
        planner=0,
        **{f"w_{term}": weight for term, weight in scenario.reward["place"].items()},
    )


def _fabric(scenario: Scenario, cluster: Cluster) -> NDArray[np.void]:
    """Return the FABRIC record: what the fabric knows by the same name, and what it does not."""
    fabric = cluster.fabric
    names = FABRIC.names or ()
    return records_of(
        FABRIC,
        **{name: getattr(fabric, name) for name in names if hasattr(fabric, name)},
        nodes=cluster.num_nodes,
        gpus_per_node=cluster.gpus_per_node,
        leafs=len(cluster.leaf_pod),
        pods=int(fabric.switch_pod.max()) + 1,
        switches=fabric.num_switches,
        routing=ROUTINGS.index(scenario.network.routing),
        queue_pairs=scenario.network.queue_pairs,
        fidelity=FIDELITIES.index(scenario.network.fidelity),
    )


def _node_specs(cluster: Cluster) -> NDArray[np.void]:
    """Return one NODE_SPEC record per node."""
    specs = records(cluster.num_nodes, NODE_SPEC)
    for number, pool in enumerate(cluster.pools):
        here = np.flatnonzero(cluster.node_pool == number)
        some = specs[here]
        fill_in(
            some,
            leaf=cluster.node_leaf[here],
            pod=cluster.leaf_pod[cluster.node_leaf[here]],
            pool=number,
            gpus=pool.gpus_per_node,
            nic_bytes_per_s=pool.nic_bytes_per_s,
            scale_up_bytes_per_s=pool.scale_up_bytes_per_s,
            memory_bytes=pool.gpu.memory_bytes,
            price_per_h=pool.gpu.price_per_h,
            idle_w=IDLE_POWER * pool.gpu.tdp_w,
            busy_w=pool.gpu.tdp_w,
        )
        specs[here] = some
    return specs


SERVICES = "services"
"""The queue of the gangs of services that name none, the last one."""


def queues_of(scenario: Scenario) -> tuple[Queue, ...]:
    """Return the queues of all tenants, and of services that are in none of those.

    These deserve all that they may have.
    """
    assert scenario.cluster is not None and scenario.jobs is not None
    apart = [service for service in scenario.services if not service.queue]
    if not apart:
        return scenario.jobs.queues
    gpus = scenario.cluster.num_gpus
    most = sum(role.most * role.gpus for service in apart for role in service.roles)
    is_shared = any(queue.deserved for queue in scenario.jobs.queues)
    deserved = min(most, gpus) if is_shared else 0
    return (*scenario.jobs.queues, Queue(SERVICES, gpus, deserved=deserved))


class ServiceGang(NamedTuple):
    """A gang of replicas: a service's base gang, or one replica.

    Attributes:
        service: whose it is.
        gpus: its size.
        memory_bytes: that each GPU holds for good: weights, activations, graphs.
        is_base: whether it is the base gang, or a replica of that.
    """

    service: int
    gpus: int
    memory_bytes: float
    is_base: bool


def service_gangs(scenario: Scenario) -> list[ServiceGang]:
    """Return the gangs of the scenario's services, in their order."""
    found: dict[int, ServiceGang] = {}
    for slot, replica in zip(scenario.slots, scenario.replicas, strict=True):
        gpu = replica.deployment.gpu
        held = replica.weight_share * gpu.memory_bytes
        for number in {slot.gang, slot.base} if slot.is_base else {slot.gang}:
            gang = found.get(number, ServiceGang(slot.service, 0, held, slot.is_base))
            gpus, most = gang.gpus + replica.deployment.gpus, max(gang.memory_bytes, held)
            found[number] = ServiceGang(slot.service, gpus, most, slot.is_base)
    return [found[gang] for gang in sorted(found)]


def _with_services(scenario: Scenario, traffic: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Add a kind for every gang of a service: it sends nothing, and runs on its pool alone."""
    gangs = service_gangs(scenario)
    if not gangs:
        return traffic
    kinds, patterns = records(len(gangs), KIND), records(len(gangs), PATTERN)
    speeds = np.zeros((len(gangs), traffic["speeds"].shape[1]))
    for row, gang in enumerate(gangs):
        kinds["memory_bytes"][row] = gang.memory_bytes
        patterns["ranks"][row], patterns["compute_s"][row] = gang.gpus, 1.0
        speeds[row, scenario.services[gang.service].pool] = 1.0
    more = {"kinds": kinds, "patterns": patterns, "speeds": speeds}
    return traffic | {name: np.concatenate([traffic[name], more[name]]) for name in more}


def _with_replicas(scenario: Scenario, known: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Add the patterns of replicas, which no kind of gang has, and which of them each is."""
    more = build_traffic(scenario, len(known["patterns"]), len(known["phases"]))
    joined = {name: np.concatenate([known[name], more[name]]) for name in ("patterns", "phases")}
    return known | joined | {"traffic": more["traffic"]}


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


def _traffic(cluster: Cluster, profiles: list[GangProfile]) -> dict[str, NDArray[Any]]:
    """Return what jobs compute and send: KIND and PATTERN (K,), PHASE (P,), speeds (K, pools)."""
    pool = cluster.pools[reference_pool(cluster)]
    kinds, patterns = records(len(profiles), KIND), records(len(profiles), PATTERN)
    phases = records(max(1, sum(len(profile.phases) for profile in profiles)), PHASE)
    speeds = np.zeros((len(profiles), len(cluster.pools)))
    at = 0
    for row, profile in enumerate(profiles):
        comm_s = seconds(profile.phases, profile.gpus, *_site(pool))
        nominal_s = profile.compute_s + max(0.0, comm_s - profile.hidden_s)
        fill_in(
            kinds[row : row + 1],
            memory_bytes=profile.memory_bytes,
            load=profile.load,
            comm_s=comm_s,
            comm_share=min(comm_s / nominal_s, 1.0),
        )
        fill_in(
            patterns[row : row + 1],
            ranks=profile.gpus,
            first_phase=at,
            num_phases=len(profile.phases),
            compute_s=profile.compute_s,
            hidden_s=profile.hidden_s,
        )
        for phase in profile.phases:
            fill_in(phases[at : at + 1], **vars(phase))
            at += 1
        speeds[row] = [gang_profile.speed(profile, other.gpu) for other in cluster.pools]
    return {"kinds": kinds, "patterns": patterns, "phases": phases, "speeds": speeds}
