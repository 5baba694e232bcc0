"""All arrays of a batch of placement worlds in one bundle; see :mod:`..state` for the style."""

from __future__ import annotations

from typing import Any, NamedTuple


class GangState(NamedTuple):
    """Arrays; E environments, N nodes, D GPUs, L links, J jobs, K kinds, S leaf switches.

    Attributes:
        envs: GANG_ENV (E,).
        config: GANG_CONFIG (1,).
        fabric: FABRIC (1,).
        specs: NODE_SPEC (N,).
        kinds: KIND (K,).
        phases: PHASE (P,), the phases of all kinds.
        speeds: float64 (K, pools), compute rate relative to ``compute_s``; 0: cannot run there.
        quotas: int32 (tenants,), GPUs that a tenant may hold at once.
        leaf_pods: int32 (leafs,).
        leaf_pools: int32 (leafs,).
        leaf_begin: int32 (leafs + 1,), nodes of leaf i are ``leaf_begin[i] .. leaf_begin[i+1]``.
        gpu_switch: int32 (D,), leaf switch of the GPU's NIC.
        switch_pods: int32 (S,).
        capacity: float64 (L,), bytes/s.
        jobs: JOB (E, J).
        gpu_owner: int32 (E, D), job, FREE or DOWN.
        gpu_next: int32 (E, D), next rank of the same job, -1 at the end.
        gpu_uplink: int32 (E, D), uplink that a reserved job's GPU sends through, -1: none.
        node_free: int32 (E, N), free GPUs, 0 while the node is down.
        node_speed: float64 (E, N), 1 but for stragglers.
        leaf_hist: int32 (E, leafs, gpus_per_node + 1), nodes by number of free GPUs, up ones only.
        uplink_owner: int32 (E, S, U), job that reserved it, or FREE.
        uplink_users: int32 (E, S, U), usage entries on its two directions.
        circuits: int32 (E, S, U), spine at the far end, -1: dark; ``k mod A`` without OCS.
        usages: USAGE (E, M).
        link_head: int32 (E, L), first usage entry of each link, -1: none.
        load: float64 (E, L), bytes/s in the long run (fluid) or now (flow); at most capacity.
        heap: int32 (E, J), running jobs, the one with the least ``event_s`` first.
        order: int32 (E, D), scratch: GPUs of a job in rank order.
        tenant_gpus: int32 (E, tenants), GPUs that each tenant holds.
        repairs: float64 (E, N), when a node comes back, inf: it is up.
        switch_begin: int32 (leafs + 1,), leaf switches of leaf i are ``switch_begin[i] ..``.
        leaf_gangs: int32 (E, leafs), running gangs that reach beyond the leaf.
        leaf_load: float64 (E, leafs), mean load of the links of its switches, a share.
        leaf_uplinks: int32 (E, leafs), unused uplinks of the leaf switch that has the fewest.
        ports: int32 (E, A, U), circuits that end at spine a on optical switch u.
        gpu_memory: float32 (E, D), share in use.
        gpu_load: float32 (E, D), share of peak in use.
        chosen: int32 (E, leafs), scratch: leafs of a plan in order.
        counts: int32 (E, leafs), scratch: nodes that the plan takes of each.
        gpu_mark: int64 (E, D), scratch.
        proposal: int32 (E, 2), a planner's gang and how many gangs to preempt first.
        proposed_gpus: int32 (E, D), its GPUs in rank order.
        proposed_uplinks: int32 (E, D), uplink per rank, -1: none.
        proposed_circuits: int32 (E, D), spine per rank, -1: as it is.
        proposed_stops: int32 (E, J), gangs to preempt.
        cluster, memory, device_load, link_load, queue, candidates: float32, the observation keys.
        mask: int8 (E, C).
        gpu_port: int32 (D,), place of a GPU among those of its leaf switch.
        steps: STEP (E, Q), phases of the running jobs that use links; :mod:`..network.records`.
        pairs: PAIR (E, R), who slows whom.
        links: LINK (E, L), demand and scratch.
        uplink_flows: int32 (E, S, U), parts of flows that go up.
        work: int32 (E, J), jobs whose rate must be found anew.
        done: int32 (E, J), jobs whose rate was found anew.
        fill_keys: float64 (E, L + J), scratch: heap of progressive filling.
        fill_items: int32 (E, L + J), scratch.
    """

    envs: Any
    config: Any
    fabric: Any
    specs: Any
    kinds: Any
    phases: Any
    speeds: Any
    quotas: Any
    leaf_pods: Any
    leaf_pools: Any
    leaf_begin: Any
    gpu_switch: Any
    switch_pods: Any
    capacity: Any
    jobs: Any
    gpu_owner: Any
    gpu_next: Any
    gpu_uplink: Any
    node_free: Any
    node_speed: Any
    leaf_hist: Any
    uplink_owner: Any
    uplink_users: Any
    circuits: Any
    usages: Any
    link_head: Any
    load: Any
    heap: Any
    order: Any
    tenant_gpus: Any
    repairs: Any
    switch_begin: Any
    leaf_gangs: Any
    leaf_load: Any
    leaf_uplinks: Any
    ports: Any
    gpu_memory: Any
    gpu_load: Any
    chosen: Any
    counts: Any
    gpu_mark: Any
    proposal: Any
    proposed_gpus: Any
    proposed_uplinks: Any
    proposed_circuits: Any
    proposed_stops: Any
    cluster: Any
    memory: Any
    device_load: Any
    link_load: Any
    queue: Any
    candidates: Any
    mask: Any
    gpu_port: Any
    steps: Any
    pairs: Any
    links: Any
    uplink_flows: Any
    work: Any
    done: Any
    fill_keys: Any
    fill_items: Any
