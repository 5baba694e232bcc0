"""All arrays of a batch of placement worlds; compiled functions get them as the bundle ``w``.

E environments, N nodes, D GPUs, L links, J jobs, K kinds, S leaf switches.

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
    used_memory: float64 (E, D), share of each GPU's memory; aggregated: (E, leafs), mean share.
    used_load: float64, the same of its peak FLOP/s.
    feasible: int8 (E, C), the mask of the decision under way.
    chosen: int32 (E, leafs), scratch: leafs of a plan in order.
    plan_ids: int64 (E, C), scratch.
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

from __future__ import annotations

import numpy as np

from .core.bundle import Bundle
from .decide.columns import LAYOUT
from .gangs.records import FABRIC, GANG_CONFIG, GANG_ENV, JOB, KIND, NODE_SPEC, PHASE, USAGE
from .network.records import LINK, PAIR, STEP

FIELDS = (
    ("envs", GANG_ENV, 1),
    ("layout", LAYOUT, 1),
    ("config", GANG_CONFIG, 1),
    ("fabric", FABRIC, 1),
    ("specs", NODE_SPEC, 1),
    ("kinds", KIND, 1),
    ("phases", PHASE, 1),
    ("speeds", np.float64, 2),
    ("quotas", np.int32, 1),
    ("leaf_pods", np.int32, 1),
    ("leaf_pools", np.int32, 1),
    ("leaf_begin", np.int32, 1),
    ("gpu_switch", np.int32, 1),
    ("switch_pods", np.int32, 1),
    ("switch_begin", np.int32, 1),
    ("capacity", np.float64, 1),
    ("jobs", JOB, 2),
    ("gpu_owner", np.int32, 2),
    ("gpu_next", np.int32, 2),
    ("gpu_uplink", np.int32, 2),
    ("node_free", np.int32, 2),
    ("node_speed", np.float64, 2),
    ("leaf_hist", np.int32, 3),
    ("leaf_gangs", np.int32, 2),
    ("leaf_load", np.float64, 2),
    ("leaf_uplinks", np.int32, 2),
    ("uplink_owner", np.int32, 3),
    ("circuits", np.int32, 3),
    ("ports", np.int32, 3),
    ("tenant_gpus", np.int32, 2),
    ("repairs", np.float64, 2),
    ("used_memory", np.float64, 2),
    ("used_load", np.float64, 2),
    ("feasible", np.int8, 2),
    ("proposal", np.int32, 2),
    ("proposed_gpus", np.int32, 2),
    ("proposed_uplinks", np.int32, 2),
    ("proposed_circuits", np.int32, 2),
    ("proposed_stops", np.int32, 2),
    # the network's own
    ("gpu_port", np.int32, 1),
    ("usages", USAGE, 2),
    ("steps", STEP, 2),
    ("pairs", PAIR, 2),
    ("links", LINK, 2),
    ("link_head", np.int32, 2),
    ("load", np.float64, 2),
    ("heap", np.int32, 2),
    ("uplink_users", np.int32, 3),
    ("uplink_flows", np.int32, 3),
    # scratch
    ("order", np.int32, 2),
    ("chosen", np.int32, 2),
    ("counts", np.int32, 2),
    ("plan_ids", np.int64, 2),
    ("gpu_mark", np.int64, 2),
    ("work", np.int32, 2),
    ("done", np.int32, 2),
    ("fill_keys", np.float64, 2),
    ("fill_items", np.int32, 2),
    # what is observed
    ("cluster", np.float32, 2),
    ("memory", np.float32, 2),
    ("device_load", np.float32, 2),
    ("link_load", np.float32, 2),
    ("queue", np.float32, 3),
    ("candidates", np.float32, 3),
    ("mask", np.int8, 2),
)

GANGS = Bundle("GangState", FIELDS)
GangState = GANGS.tuple
