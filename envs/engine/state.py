"""All arrays of a batch of worlds; compiled functions get them as the bundle ``w``.

E environments, R replicas, K kinds; N nodes, D GPUs, L links, J jobs, S leaf switches, T transfers
at once. Arrays of parts that a scenario lacks have no items.

What holds for the whole world:

    units: UNITS (1,), addresses of compiled functions.
    layout: LAYOUT (1,), where each block of columns begins.
    clock: CLOCK (E,).

Requests and replicas:

    router: ROUTER (E,).
    serving_rules: SERVING_RULES (1,).
    objectives: OBJECTIVE (V,), of each service's requests; of all where there are no services.
    replicas: REPLICA (E, R).
    replica_specs: REPLICA_SPEC (R,).
    costs: COST (K,), of kinds of replicas.
    linear_s: float64 (K, T + 1), seconds by tokens in a step.
    head_s: float64 (K, S + 1), seconds by sequences sampling.
    requests: REQUEST (E, N).
    slots: SLOT (E, R, S), the running batch in order of admission.
    decode_phases: int32 (E, R, block size), decoding sequences by when they take their next block.
    prefix_marks: PREFIX_MARK (E, H, words), by prefix id; replica r has bit r % 64 of word r // 64.
    prefix_entries: PREFIX_ENTRY (E, P), those that are cached, in no order.
    prefix_heads: int32 (E, any), first entry of each chain of the hash table, -1: none.
    prefix_units: PREFIX_UNIT (E, M), of all requests.
    due_s: float64 (E, sessions that answer back), a heap of when turns arrive.
    due_requests: int32, likewise, which these are.
    lora_rules: LORA_RULES (1,) where requests name adapters.
    clients: CLIENT (C,), who sends requests; C is 0 where nobody asks.
    client_states: CLIENT_STATE (E, C).
    fair_counters: float64 (E, R, C), tokens that each replica has served each client, weighted.
    lora_places: LORA_PLACE (E, R, places), adapters that the replicas have.
    encoder_specs: ENCODER_SPEC (R,) where replicas encode images of requests.
    image_costs: IMAGE_COST (R, sizes of images) there, (1, sizes) on encode replicas.
    request_images: REQUEST_IMAGE (E, N).
    encoders: ENCODER (E, R), or (E, P) of P encode replicas.
    cached_images: CACHED_IMAGE (E, R or P, places), images that they have encoded.
    encode_pool: ENCODE_POOL (1,) where encode replicas encode images.
    encode_queues: ENCODE_QUEUE (E, P) there.
    encodings: ENCODING (E, N) there.
    tier_specs: TIER_SPEC (T,), the KV tiers behind the replicas.
    replica_tiers: REPLICA_TIERS (R,), which of them each one has.
    tiers: TIER (E, T).
    nics: NIC (E, R).
    tier_entries: TIER_ENTRY (E, P), each tier's own from its ``begin`` on.
    tier_places: int32 (E, T, H), the entry of a prefix id in a tier, -1: it is not there.
    migration_rules: MIGRATION_RULES (1,) where running requests may move.
    moves: MOVE (E, R) there, what each replica gives or gets.
    mover: MOVER (E,) there.

Services, whose replicas are gangs; V services, G roles:

    services: SERVICE (V,).
    roles: ROLE (G,).
    turns: TURN (T,), changes of role that there may be.
    service_states: SERVICE_STATE (E, V).
    fleet: FLEET (E,).
    traffic: TRAFFIC (K,), what each row of the cost tables sends; none where no row does.
    sendings: SENDING (E, R), if any row does.
    scaler_rules: SCALER_RULES (1,).

Devices and the tree that they stand in:

    devices: DEVICES (E,).
    fault_rules: FAULT_RULES (1,).
    node_specs: NODE_SPEC (N,).
    node_free: int32 (E, N), free GPUs, 0 while the node is down.
    node_speed: float64 (E, N), 1 but for stragglers.
    gpu_owner: int32 (E, D), job, FREE or DOWN.
    leaf_pods: int32 (leafs,).
    leaf_pools: int32 (leafs,).
    leaf_begin: int32 (leafs + 1,), nodes of leaf i are ``leaf_begin[i] .. leaf_begin[i+1]``.
    leaf_hist: int32 (E, leafs, gpus_per_node + 1), nodes by number of free GPUs, up ones only.
    repairs: float64 (E, N), when a node comes back, inf: it is up.
    used_memory: float64 (E, D), share of each GPU's memory; aggregated: (E, leafs), mean share.
    used_load: float64, the same of its peak FLOP/s.
    gpu_mark: int64 (E, D), scratch.

Gangs:

    gangs: GANGS (E,).
    gang_rules: GANG_RULES (1,).
    kinds: KIND (K,), of jobs.
    speeds: float64 (K, pools), compute rate relative to ``compute_s``; 0: cannot run there.
    queue_limit: int32 (queues,), GPUs that a queue and all below it may hold at once; a tenant's
        queue has its number.
    queue_parent: int32 (queues,), the queue around it, -1: none.
    queue_deserved: int32 (queues,), GPUs that it is entitled to.
    deserving: int32 (any,), the queues that are entitled to some.
    queue_gpus: int32 (E, queues), GPUs that each queue and all below it hold.
    queue_asked: int32 (E, queues), GPUs that their pending gangs ask for.
    queue_due_gpu_s: float64 (E, queues), GPU seconds that a queue deserved and had gangs for.
    queue_got_gpu_s: float64 (E, queues), those of them that it held.
    jobs: JOB (E, J).
    gpu_next: int32 (E, D), next rank of the same gang, -1 at the end.
    gpu_uplink: int32 (E, D), uplink that a gang's GPU sends through by reservation, -1: none.
    leaf_gangs: int32 (E, leafs), running gangs that reach beyond the leaf.
    leaf_load: float64 (E, leafs), mean load of the links of its switches, a share.
    leaf_uplinks: int32 (E, leafs), unused uplinks of the leaf switch that has the fewest.
    level_room: int32 (E, pools, levels), most GPUs that one gang could get in one such domain.
    window: int32 (E, W), pending gangs that can be chosen, by age; -1 beyond.
    feasible: int8 (E, C), the mask of the decision under way.
    proposal: int32 (E, 2), a planner's gang and how many gangs to preempt first.
    proposed_gpus: int32 (E, D), its GPUs in rank order.
    proposed_uplinks: int32 (E, D), uplink per rank, -1: none.
    proposed_circuits: int32 (E, D), spine per rank, -1: as it is.
    proposed_stops: int32 (E, J), gangs to preempt.
    listed: int32 (E, J), scratch: gangs that may be named for the window, by age.
    order: int32 (E, D), scratch: GPUs of a gang in rank order.
    chosen: int32 (E, leafs), scratch: leafs of a plan in order.
    counts: int32 (E, leafs), scratch: nodes that the plan takes of each.
    plan_ids: int64 (E, C), scratch.

The network:

    network: NETWORK (E,).
    fabric: FABRIC (1,).
    patterns: PATTERN (K,), what senders send.
    phases: PHASE (P,), the phases of all patterns.
    switch_pods: int32 (S,).
    switch_begin: int32 (leafs + 1,), leaf switches of leaf i are ``switch_begin[i] ..``.
    gpu_switch: int32 (D,), leaf switch of the GPU's NIC.
    gpu_port: int32 (D,), place of a GPU among those of its leaf switch.
    capacity: float64 (L + ports,), bytes/s.
    senders: SENDER (E, J + R + T), sender j is what job j sends; replicas follow where any of them
        may lie on several nodes, then one-shot senders.
    once: ONCE (E, T), what these send.
    usages: USAGE (E, M).
    steps: STEP (E, Q), phases of the senders that use links.
    pairs: PAIR (E, R), who slows whom.
    levels: int32 (E, Q, levels), entries of a phase by how much one-shot senders slow it there.
    links: LINK (E, L + ports), demand, sums of one-shot senders, scratch.
    link_head: int32 (E, L + ports), first usage entry of each link, -1: none.
    once_head: int32 (E, L + ports), the same of one-shot senders, in fluid.
    link_rate: float64 (E, L + ports), bytes/s, in fluid of periodic senders in the long run, else
        now; at most capacity.
    uplink_owner: int32 (E, S, U), gang that reserved it, or FREE.
    uplink_users: int32 (E, S, U), usage entries on its two directions.
    uplink_flows: int32 (E, S, U), parts of flows that go up.
    circuits: int32 (E, S, U), spine at the far end, -1: dark; ``k mod A`` without OCS.
    ports: int32 (E, A, U), circuits that end at spine a on optical switch u.
    heap: int32 (E, J + R + T), running senders, the one with the least ``event_s`` first.
    way: int32 (E, hops), scratch: links between two leaf switches.
    work: int32 (E, J + R + T), scratch: senders whose rate must be found anew.
    solved: int32 (E, J + R + T), scratch: senders whose rate was found anew.
    fill_keys: float64 (E, L + ports + J + R + T), scratch: heap of progressive filling.
    fill_items: int32 (E, L + ports + J + R + T), scratch.

What is written for each decision, fresh at every call:

    cluster, device_memory, device_load, link_load, queue, candidates: float32, observation keys.
    action_mask: int8 (E, C).
    numbers: float64 (E, 1 + info), the reward and the info.
"""

from __future__ import annotations

import numpy as np

from ..perf.serving.cost_table import COST
from .core.bundle import Bundle
from .core.records import CLOCK
from .core.units import UNITS
from .decide.columns import LAYOUT
from .devices.records import DEVICES, FAULT_RULES, NODE_SPEC
from .gangs.records import GANG_RULES, GANGS, JOB, KIND
from .network.links import FABRIC
from .network.records import (
    LINK,
    NETWORK,
    ONCE,
    PAIR,
    PATTERN,
    PHASE,
    SENDER,
    STEP,
    USAGE,
)
from .services.records import (
    FLEET,
    ROLE,
    SCALER_RULES,
    SENDING,
    SERVICE,
    SERVICE_STATE,
    TRAFFIC,
    TURN,
)
from .serving.adapters import LORA_PLACE, LORA_RULES
from .serving.clients import CLIENT, CLIENT_STATE
from .serving.encode_pool import ENCODE_POOL, ENCODE_QUEUE, ENCODING
from .serving.images import (
    CACHED_IMAGE,
    ENCODER,
    ENCODER_SPEC,
    IMAGE_COST,
    REQUEST_IMAGE,
)
from .serving.move_records import MIGRATION_RULES, MOVE, MOVER
from .serving.records import (
    OBJECTIVE,
    PREFIX_ENTRY,
    PREFIX_MARK,
    PREFIX_UNIT,
    REPLICA,
    REPLICA_SPEC,
    REQUEST,
    ROUTER,
    SERVING_RULES,
    SLOT,
)
from .serving.tier_records import NIC, REPLICA_TIERS, TIER, TIER_ENTRY, TIER_SPEC

FIELDS = (
    ("units", UNITS, 1),
    ("layout", LAYOUT, 1),
    ("clock", CLOCK, 1),
    # requests and replicas
    ("router", ROUTER, 1),
    ("serving_rules", SERVING_RULES, 1),
    ("objectives", OBJECTIVE, 1),
    ("replicas", REPLICA, 2),
    ("replica_specs", REPLICA_SPEC, 1),
    ("costs", COST, 1),
    ("linear_s", np.float64, 2),
    ("head_s", np.float64, 2),
    ("requests", REQUEST, 2),
    ("slots", SLOT, 3),
    ("decode_phases", np.int32, 3),
    ("prefix_marks", PREFIX_MARK, 3),
    ("prefix_entries", PREFIX_ENTRY, 2),
    ("prefix_heads", np.int32, 2),
    ("prefix_units", PREFIX_UNIT, 2),
    ("due_s", np.float64, 2),
    ("due_requests", np.int32, 2),
    ("lora_rules", LORA_RULES, 1),
    ("lora_places", LORA_PLACE, 3),
    ("clients", CLIENT, 1),
    ("client_states", CLIENT_STATE, 2),
    ("fair_counters", np.float64, 3),
    ("encoder_specs", ENCODER_SPEC, 1),
    ("image_costs", IMAGE_COST, 2),
    ("request_images", REQUEST_IMAGE, 2),
    ("encoders", ENCODER, 2),
    ("cached_images", CACHED_IMAGE, 3),
    ("encode_pool", ENCODE_POOL, 1),
    ("encode_queues", ENCODE_QUEUE, 2),
    ("encodings", ENCODING, 2),
    ("tier_specs", TIER_SPEC, 1),
    ("replica_tiers", REPLICA_TIERS, 1),
    ("tiers", TIER, 2),
    ("nics", NIC, 2),
    ("tier_entries", TIER_ENTRY, 2),
    ("tier_places", np.int32, 3),
    ("migration_rules", MIGRATION_RULES, 1),
    ("moves", MOVE, 2),
    ("mover", MOVER, 1),
    # services
    ("services", SERVICE, 1),
    ("roles", ROLE, 1),
    ("turns", TURN, 1),
    ("service_states", SERVICE_STATE, 2),
    ("fleet", FLEET, 1),
    ("traffic", TRAFFIC, 1),
    ("sendings", SENDING, 2),
    ("scaler_rules", SCALER_RULES, 1),
    # devices
    ("devices", DEVICES, 1),
    ("fault_rules", FAULT_RULES, 1),
    ("node_specs", NODE_SPEC, 1),
    ("node_free", np.int32, 2),
    ("node_speed", np.float64, 2),
    ("gpu_owner", np.int32, 2),
    ("leaf_pods", np.int32, 1),
    ("leaf_pools", np.int32, 1),
    ("leaf_begin", np.int32, 1),
    ("leaf_hist", np.int32, 3),
    ("repairs", np.float64, 2),
    ("used_memory", np.float64, 2),
    ("used_load", np.float64, 2),
    ("gpu_mark", np.int64, 2),
    # gangs
    ("gangs", GANGS, 1),
    ("gang_rules", GANG_RULES, 1),
    ("kinds", KIND, 1),
    ("speeds", np.float64, 2),
    ("queue_limit", np.int32, 1),
    ("queue_parent", np.int32, 1),
    ("queue_deserved", np.int32, 1),
    ("deserving", np.int32, 1),
    ("queue_gpus", np.int32, 2),
    ("queue_asked", np.int32, 2),
    ("queue_due_gpu_s", np.float64, 2),
    ("queue_got_gpu_s", np.float64, 2),
    ("jobs", JOB, 2),
    ("gpu_next", np.int32, 2),
    ("gpu_uplink", np.int32, 2),
    ("leaf_gangs", np.int32, 2),
    ("leaf_load", np.float64, 2),
    ("leaf_uplinks", np.int32, 2),
    ("level_room", np.int32, 3),
    ("window", np.int32, 2),
    ("feasible", np.int8, 2),
    ("proposal", np.int32, 2),
    ("proposed_gpus", np.int32, 2),
    ("proposed_uplinks", np.int32, 2),
    ("proposed_circuits", np.int32, 2),
    ("proposed_stops", np.int32, 2),
    ("listed", np.int32, 2),
    ("order", np.int32, 2),
    ("chosen", np.int32, 2),
    ("counts", np.int32, 2),
    ("plan_ids", np.int64, 2),
    # the network
    ("network", NETWORK, 1),
    ("fabric", FABRIC, 1),
    ("patterns", PATTERN, 1),
    ("phases", PHASE, 1),
    ("switch_pods", np.int32, 1),
    ("switch_begin", np.int32, 1),
    ("gpu_switch", np.int32, 1),
    ("gpu_port", np.int32, 1),
    ("capacity", np.float64, 1),
    ("senders", SENDER, 2),
    ("once", ONCE, 2),
    ("usages", USAGE, 2),
    ("steps", STEP, 2),
    ("pairs", PAIR, 2),
    ("levels", np.int32, 3),
    ("links", LINK, 2),
    ("link_head", np.int32, 2),
    ("once_head", np.int32, 2),
    ("link_rate", np.float64, 2),
    ("uplink_owner", np.int32, 3),
    ("uplink_users", np.int32, 3),
    ("uplink_flows", np.int32, 3),
    ("circuits", np.int32, 3),
    ("ports", np.int32, 3),
    ("heap", np.int32, 2),
    ("way", np.int32, 2),
    ("work", np.int32, 2),
    ("solved", np.int32, 2),
    ("fill_keys", np.float64, 2),
    ("fill_items", np.int32, 2),
    # what is written for each decision
    ("cluster", np.float32, 2),
    ("device_memory", np.float32, 2),
    ("device_load", np.float32, 2),
    ("link_load", np.float32, 2),
    ("queue", np.float32, 3),
    ("candidates", np.float32, 3),
    ("action_mask", np.int8, 2),
    ("numbers", np.float64, 2),
)

STATE = Bundle("State", FIELDS)
