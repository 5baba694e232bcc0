"""What is seen of services; columns stand in :mod:`gpuyard.envs.observation`.

What a replica does stands in its last report, and a round of decisions begins with one.
"""

from __future__ import annotations

from ..core.compile import kernel
from ..core.records import SCALE
from ..core.units import unit
from ..serving.records import DRAINING, QUEUED, SERVING, STARTING, TURNING
from .columns import info_places, places, scaling, squash
from .scale import ADD, KEEP, TAKE, is_feasible, next_to_turn

CLUSTER = places("cluster", "scale")
CANDIDATE = places("candidates", "scale")
INFO = info_places("scale")
PREEMPT = info_places("preempt")
CLUSTER_OFFSET, CLUSTER_SLOPE = scaling("cluster", "scale")
CANDIDATE_OFFSET, CANDIDATE_SLOPE = scaling("candidates", "scale")


@kernel
def count_phases(w, e, row):
    """Count the replicas by phase into the columns of a row for the whole fleet."""
    for r in range(len(w.replica_specs)):
        phase = w.replicas[e, r].phase
        row[CLUSTER.serving] += phase == SERVING
        row[CLUSTER.starting] += phase == QUEUED or phase == STARTING or phase == TURNING
        row[CLUSTER.draining] += phase == DRAINING


@kernel
def describe_role(w, e, row, role):
    """Fill the columns of a row that say how a role and its service stand."""
    for r in range(role.first, role.first + role.most):
        replica, spec = w.replicas[e, r], w.replica_specs[r]
        row[CANDIDATE.queued] += replica.phase == QUEUED or replica.phase == TURNING
        row[CANDIDATE.starting] += replica.phase == STARTING
        row[CANDIDATE.draining] += replica.phase == DRAINING
        if replica.phase != SERVING:
            continue
        row[CANDIDATE.serving] += 1
        row[CANDIDATE.in_flight] += replica.in_flight
        row[CANDIDATE.waiting] += replica.report_waiting
        row[CANDIDATE.running] += replica.report_running
        row[CANDIDATE.queued_tokens] += replica.report_queued_tokens
        row[CANDIDATE.kv_usage] += replica.report_blocks / spec.kv_blocks
        row[CANDIDATE.busy] += replica.report_busy
    serving = max(row[CANDIDATE.serving], 1.0)
    for column in range(CANDIDATE.in_flight, CANDIDATE.busy + 1):
        row[column] /= serving  # sums so far
    service = w.service_states[e, role.service]
    row[CANDIDATE.least], row[CANDIDATE.most] = role.least, role.most
    row[CANDIDATE.gpus], row[CANDIDATE.price] = role.gpus, role.price_per_h
    row[CANDIDATE.startup_s] = role.startup_s
    row[CANDIDATE.free] = min(w.devices[e].free_gpus / role.gpus, 1.0)
    row[CANDIDATE.rate_per_s] = service.rate_per_s
    row[CANDIDATE.prompt_tokens] = service.prompt_mean
    row[CANDIDATE.output_tokens] = service.output_mean
    row[CANDIDATE.ttft_s], row[CANDIDATE.tpot_s] = service.ttft_mean_s, service.tpot_mean_s
    row[CANDIDATE.slo] = service.slo_share


@kernel
def observe_roles(w, e):
    """Fill the candidates: to keep, for each role to add and to take away, then changes of role."""
    begin = w.layout[0].candidates_scale
    w.candidates[e, KEEP, begin + CANDIDATE.is_keep] = 1.0
    w.action_mask[e, KEEP] = 1
    for g in range(len(w.roles)):
        for what in (ADD, TAKE):
            at = 1 + 2 * g + what
            w.action_mask[e, at] = is_feasible(w, e, at)
            row = w.candidates[e, at, begin:]
            row[CANDIDATE.is_add] = what == ADD
            row[CANDIDATE.is_take] = what == TAKE
            describe_role(w, e, row, w.roles[g])
            squash(row, CANDIDATE_OFFSET, CANDIDATE_SLOPE)
    for t in range(len(w.turns)):
        at = 1 + 2 * len(w.roles) + t
        w.action_mask[e, at] = is_feasible(w, e, at)
        row = w.candidates[e, at, begin:]
        row[CANDIDATE.is_turn] = 1.0
        describe_role(w, e, row, w.roles[w.turns[t].taker])
        row[CANDIDATE.startup_s] = w.roles[w.turns[t].taker].change_s
        describe_giver(w, e, row, w.roles[w.turns[t].giver])
        squash(row, CANDIDATE_OFFSET, CANDIDATE_SLOPE)


@kernel
def describe_giver(w, e, row, role):
    """Fill the columns of a change of role that say what it costs the role that is left."""
    for r in range(role.first, role.first + role.most):
        row[CANDIDATE.left] += w.replicas[e, r].phase == SERVING
    turns = next_to_turn(w, e, role)
    if turns >= 0:
        row[CANDIDATE.left] -= 1.0
        row[CANDIDATE.to_finish] = w.replicas[e, turns].in_flight + w.replicas[e, turns].holding


@kernel
def show_replicas(w, e):
    """Add what serving replicas do to what is shown of their devices: KV blocks, FLOP/s."""
    gang, gpu, rank = -1, -1, 0
    for r in range(len(w.replica_specs)):
        replica, spec = w.replicas[e, r], w.replica_specs[r]
        if replica.phase != SERVING and replica.phase != DRAINING:
            continue
        memory, load = spec.kv_share * replica.report_blocks / spec.kv_blocks, replica.report_load
        if spec.gang != gang or spec.rank < rank:  # else the gang's GPUs go on from there
            gang, gpu, rank = spec.gang, w.senders[e, spec.gang].first_gpu, 0
        while gpu >= 0 and rank < spec.rank + spec.gpus:
            if rank >= spec.rank:
                show(w, e, gpu, memory, load)
            gpu = w.gpu_next[e, gpu]
            rank += 1


@kernel
def show(w, e, gpu, memory, load):
    """Add to what is shown of one GPU, or of its leaf by its share of it."""
    at = gpu
    if w.gang_rules[0].aggregate == 1:
        node = w.node_specs[gpu // w.fabric[0].gpus_per_node]
        at = node.leaf
        gpus = (w.leaf_begin[at + 1] - w.leaf_begin[at]) * node.gpus
        memory, load = memory / gpus, load / gpus
    w.device_memory[e, at] = min(w.device_memory[e, at] + memory, 1.0)
    w.device_load[e, at] = min(w.device_load[e, at] + load, 1.0)


@kernel
def write_services(w, e, info):
    """Fill attainment and goodput of each service so far, in turn, where there are several.

    At the end requests that a truncated episode leaves have met no objective, as in the whole.
    """
    now_s, is_cut = w.clock[e].now_s, w.clock[e].done == 1
    for v in range(w.service_states.shape[1]):
        service = w.service_states[e, v]
        of = service.arrived if is_cut else service.finished
        info[2 * v] = service.slo_met / of if of > 0 else 0.0
        info[2 * v + 1] = service.slo_met / now_s if now_s > 0.0 else 0.0


@unit
def see_scale(w, e):
    """Fill what is seen of services, after all that is seen of requests and gangs; and the info."""
    fleet, router = w.fleet[e], w.router[e]
    row = w.cluster[e, w.layout[0].cluster_scale :]
    count_phases(w, e, row)
    info = w.numbers[e, w.layout[0].info_scale :]
    info[INFO.serving], info[INFO.starting] = row[CLUSTER.serving], row[CLUSTER.starting]
    info[INFO.draining], info[INFO.parked] = row[CLUSTER.draining], router.parked
    info[INFO.starts], info[INFO.drains] = fleet.starts, fleet.drains
    info[INFO.turns] = fleet.turns
    info[INFO.terminations], info[INFO.evictions] = fleet.terminations, fleet.evictions
    info[INFO.handed_back] = fleet.handed_back
    if w.layout[0].info_preempt > 0:
        w.numbers[e, w.layout[0].info_preempt + PREEMPT.replicas_preempted] = fleet.preempted
    if w.service_states.shape[1] > 1:
        write_services(w, e, w.numbers[e, w.layout[0].info_services :])
    row[CLUSTER.parked], row[CLUSTER.changes] = router.parked, fleet.changes
    row[CLUSTER.since_s] = fleet.since_s
    squash(row, CLUSTER_OFFSET, CLUSTER_SLOPE)
    show_replicas(w, e)
    if w.clock[e].due == SCALE:
        observe_roles(w, e)
