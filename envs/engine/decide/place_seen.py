"""What is seen of gangs, devices and links; columns stand in :mod:`gpuyard.envs.observation`."""

from __future__ import annotations

from ..core.compile import kernel
from ..core.records import NOTHING, PLACE
from ..core.units import unit
from ..devices.nodes import node_in_leaf
from ..gangs.moments import JOULES_PER_KWH
from ..gangs.plans import (
    ISOLATED,
    SPREAD,
    ZONE,
    choose,
    is_unused,
    leaf_free,
    nodes_needed,
    pool_nodes,
)
from ..network.links import leaf_down, leaf_up, num_links
from .columns import QUEUED, info_places, places, scaling, squash
from .placing import may_run_on, may_stop
from .stopping import show_stop
from .window import fill_window, has_room, is_ready, measure_room

INFO = info_places("place")
CLUSTER = places("cluster", "place")
QUEUE = places("queue", "place")
CANDIDATE = places("candidates", "place")
CLUSTER_OFFSET, CLUSTER_SLOPE = scaling("cluster", "place")
QUEUE_OFFSET, QUEUE_SLOPE = scaling("queue", "place")
WIDEST = float(ZONE)  # required and preferred levels are shown as shares of it
CANDIDATE_OFFSET, CANDIDATE_SLOPE = scaling("candidates", "place")


@kernel
def survey_links(w, e):
    """Find each leaf's mean link load and the unused uplinks of its fullest switch."""
    for leaf in range(len(w.leaf_pods)):
        total, links, least = 0.0, 0, w.circuits.shape[2]
        for switch in range(w.switch_begin[leaf], w.switch_begin[leaf + 1]):
            unused = 0
            for uplink in range(w.circuits.shape[2]):
                up, down = leaf_up(w, switch, uplink), leaf_down(w, switch, uplink)
                total += w.link_rate[e, up] / w.capacity[up]
                total += w.link_rate[e, down] / w.capacity[down]
                links += 2
                unused += is_unused(w, e, switch, uplink)
            least = min(least, unused)
        w.leaf_load[e, leaf] = min(total / links, 1.0) if links > 0 else 0.0
        w.leaf_uplinks[e, leaf] = least


@kernel
def plan_id(w, e, job, plan, gpus):
    """Return a number that two plans of a gang share only if they choose the same nodes."""
    if job.gpus <= gpus:
        return node_in_leaf(w, e, w.chosen[e, 0], job.gpus, plan == SPREAD) + 1
    number = 17
    for leaf in range(len(w.leaf_pods)):
        number = (number * 31 + int(w.counts[e, leaf])) % 2147483647
    return number


@kernel
def fill_common(row, position, now_s, job):
    """Fill the columns that describe a gang, pending or running."""
    row[CANDIDATE.position] = position
    row[CANDIDATE.gpus] = job.gpus
    row[CANDIDATE.estimate_s] = job.estimate_s
    row[CANDIDATE.age_s] = now_s - job.arrival_s
    row[CANDIDATE.executed_s] = job.ran_s
    row[CANDIDATE.priority] = job.priority


@kernel
def fill_place(w, e, row, job, plan, pool, spans, gpus):
    """Fill the row of starting a gang as ``chosen`` and ``counts`` say."""
    devices = w.devices[e]
    row[CANDIDATE.is_place] = 1.0
    fill_common(row, job.position, w.clock[e].now_s, job)
    row[CANDIDATE.plan_pack + plan] = 1.0
    fastest = 0.0
    for other in range(w.gang_rules[0].pools):
        fastest = max(fastest, w.speeds[job.kind, other])
    first = w.node_specs[w.leaf_begin[w.chosen[e, 0]]]
    nodes = nodes_needed(w, job, gpus)
    left, total, load, sharing = 0, 0, 0.0, 0
    for i in range(spans):
        leaf = w.chosen[e, i]
        left += leaf_free(w, e, leaf)
        total += (w.leaf_begin[leaf + 1] - w.leaf_begin[leaf]) * gpus
        load = max(load, w.leaf_load[e, leaf])
        sharing = max(sharing, w.leaf_gangs[e, leaf])
    if job.gpus <= gpus:
        node = node_in_leaf(w, e, w.chosen[e, 0], job.gpus, plan == SPREAD)
        before = w.node_free[e, node]
        partial = devices.partial_gpus - (before if before < gpus else 0) + before - job.gpus
    else:
        partial = devices.partial_gpus + nodes * gpus - job.gpus
    free_after = devices.free_gpus - job.gpus
    row[CANDIDATE.speed] = w.speeds[job.kind, pool] / fastest
    row[CANDIDATE.nodes] = nodes
    row[CANDIDATE.price] = first.price_per_h * job.gpus
    row[CANDIDATE.leafs] = spans
    row[CANDIDATE.leftover] = (left - job.gpus) / total
    row[CANDIDATE.fragmentation] = partial / free_after if free_after > 0 else 0.0
    row[CANDIDATE.link_load] = load if spans > 1 else 0.0
    row[CANDIDATE.sharing] = sharing if spans > 1 and plan < ISOLATED else 0
    row[CANDIDATE.comm_share] = w.kinds[job.kind].comm_share
    row[CANDIDATE.free_after] = free_after / devices.total_gpus
    row[CANDIDATE.tenant_share] = min(
        (w.queue_gpus[e, job.tenant] + job.gpus) / w.queue_limit[job.tenant], 1.0
    )
    squash(row, CANDIDATE_OFFSET, CANDIDATE_SLOPE)


@kernel
def survey_gang(w, e, begin, j, ids):
    """Fill the candidates of one pending gang; returns how many are feasible."""
    c, job = w.gang_rules[0], w.jobs[e, j]
    feasible = 0
    for pool in range(int(c.pools)):  # of one type here and in ``place``: compiled once
        gpus = pool_nodes(w, pool)
        for plan in range(int(c.plans)):
            at = begin + plan * c.pools + pool
            spans = 0
            if may_run_on(w, job, pool):
                spans = choose(w, e, j, plan, pool)
            if spans > 0 and plan < ISOLATED:
                number = plan_id(w, e, job, plan, gpus)
                for earlier in range(plan):
                    if ids[begin + earlier * c.pools + pool] == number:
                        spans = 0
                ids[at] = number if spans > 0 else 0
            w.candidates[e, at, :] = 0.0
            if spans == 0:
                continue
            row = w.candidates[e, at, w.layout[0].candidates_place :]
            fill_place(w, e, row, job, plan, pool, spans, gpus)
            w.feasible[e, at] = 1
            feasible += 1
    return feasible


@kernel
def survey_running(w, e, gangs, begin):
    """Fill the rows of preempting the gangs that started last; returns how many are feasible."""
    feasible, devices = 0, w.devices[e]
    j = gangs.running_head
    for i in range(w.gang_rules[0].running_rows):
        w.candidates[e, begin + i, :] = 0.0
        if j < 0:
            continue
        job = w.jobs[e, j]
        row = w.candidates[e, begin + i, w.layout[0].candidates_place :]
        if gangs.pending > 0 and may_stop(w, e, job):
            row[CANDIDATE.is_preempt] = 1.0
            fill_common(row, i, w.clock[e].now_s, job)
            row[CANDIDATE.executed_s] += w.clock[e].now_s - job.start_s
            row[CANDIDATE.leafs] = job.leafs
            row[CANDIDATE.comm_share] = w.senders[e, j].duty
            row[CANDIDATE.free_after] = (devices.free_gpus + job.gpus) / devices.total_gpus
            squash(row, CANDIDATE_OFFSET, CANDIDATE_SLOPE)
            if job.service >= 0:
                show_stop(w, e, w.candidates[e, begin + i], j)
            w.feasible[e, begin + i] = 1
            feasible += 1
        j = job.next
    return feasible


@unit
def survey(w, e, may_wait) -> int:
    """Fill all candidates and their mask; returns how many besides waiting are feasible."""
    c, gangs = w.gang_rules[0], w.gangs[e]
    per_gang = c.plans * c.pools
    w.clock[e].surveyed = 1
    survey_links(w, e)
    measure_room(w, e)
    head = gangs.queue_head
    gangs.head_fits = head >= 0 and has_room(w, e, w.jobs[e, head], ZONE)
    fill_window(w, e)
    w.feasible[e, :] = 0
    feasible = 0
    for place in range(c.window):
        begin, j = place * per_gang, w.window[e, place]
        if j >= 0 and is_ready(w, e, w.jobs[e, j]):
            feasible += survey_gang(w, e, begin, j, w.plan_ids[e])
        else:
            w.candidates[e, begin : begin + per_gang, :] = 0.0
    begin = c.window * per_gang
    feasible += survey_running(w, e, gangs, begin)
    wait, own = begin + c.running_rows, begin + c.running_rows + 1
    at = w.layout[0].candidates_place
    w.candidates[e, wait : own + 1, :] = 0.0
    w.candidates[e, wait, at + CANDIDATE.is_wait] = 1.0
    w.candidates[e, own, at + CANDIDATE.is_own] = 1.0
    w.feasible[e, wait] = may_wait == 1 or feasible == 0
    return feasible


@kernel
def observe_queue(w, e):
    """Fill a row for each pending gang of the window, by age; the rows are 0 before."""
    for place in range(w.window.shape[1]):
        j = w.window[e, place]
        if j < 0:
            continue
        job = w.jobs[e, j]
        w.queue[e, place, QUEUED.is_gang] = 1.0
        row = w.queue[e, place, w.layout[0].queue_place :]
        row[QUEUE.gpus] = job.gpus
        row[QUEUE.estimate_s] = job.estimate_s
        row[QUEUE.age_s] = w.clock[e].now_s - job.arrival_s
        row[QUEUE.priority] = job.priority
        row[QUEUE.executed_s] = job.ran_s
        row[QUEUE.comm_share] = w.kinds[job.kind].comm_share
        row[QUEUE.required] = job.required / WIDEST
        row[QUEUE.preferred] = job.preferred / WIDEST
        share = w.queue_gpus[e, job.tenant] / w.queue_limit[job.tenant]
        row[QUEUE.tenant_share] = min(share, 1.0)
        row[QUEUE.preemptions] = job.preemptions
        squash(row, QUEUE_OFFSET, QUEUE_SLOPE)


@kernel
def lost_speed(w, e, gangs):
    """Return the share of speed that running gangs lose to contention, averaged over gangs."""
    lost = 0.0
    j = gangs.running_head
    while j >= 0:
        job, sender = w.jobs[e, j], w.senders[e, j]
        if job.service < 0:
            lost += 1.0 - sender.ideal_s / sender.iteration_s
        j = job.next
    return min(max(lost / gangs.running, 0.0), 1.0) if gangs.running > 0 else 0.0


@kernel
def observe_cluster(w, e, gangs):
    """Fill what holds for all gangs, devices and links."""
    devices = w.devices[e]
    row = w.cluster[e, w.layout[0].cluster_place :]
    empty, mean, highest = 0, 0.0, 0.0
    for leaf in range(len(w.leaf_pods)):
        empty += w.leaf_hist[e, leaf, w.node_specs[w.leaf_begin[leaf]].gpus]
        mean += w.leaf_load[e, leaf] / len(w.leaf_pods)
        highest = max(highest, w.leaf_load[e, leaf])
    row[CLUSTER.arrival_rate] = 3600.0 / gangs.gap_s if gangs.gap_s > 0.0 else 0.0
    row[CLUSTER.pending] = gangs.pending
    row[CLUSTER.pending_gpus] = gangs.pending_gpus
    row[CLUSTER.running] = gangs.running
    row[CLUSTER.free] = devices.free_gpus / devices.total_gpus
    row[CLUSTER.down] = devices.down_gpus / devices.total_gpus
    row[CLUSTER.empty_nodes] = empty / len(w.node_specs)
    broken = devices.partial_gpus / devices.free_gpus if devices.free_gpus > 0 else 0.0
    row[CLUSTER.fragmentation] = broken
    row[CLUSTER.link_mean] = min(mean, 1.0)
    row[CLUSTER.link_max] = highest
    row[CLUSTER.contention] = lost_speed(w, e, gangs)
    squash(row, CLUSTER_OFFSET, CLUSTER_SLOPE)


@kernel
def observe_devices(w, e):
    """Fill devices and links: each one, or aggregated per leaf."""
    for at in range(w.device_memory.shape[1]):
        w.device_memory[e, at] = min(max(w.used_memory[e, at], 0.0), 1.0)
        w.device_load[e, at] = min(max(w.used_load[e, at], 0.0), 1.0)
    if w.gang_rules[0].aggregate == 1:
        for leaf in range(len(w.leaf_pods)):
            w.link_load[e, leaf] = w.leaf_load[e, leaf]
        return
    for link in range(num_links(w)):
        w.link_load[e, link] = min(w.link_rate[e, link] / w.capacity[link], 1.0)


@kernel
def show_nothing(w, e):
    """Offer nothing but to wait: the episode has ended."""
    rules = w.gang_rules[0]
    w.candidates[e, :, :] = 0.0
    w.feasible[e, :] = 0
    w.feasible[e, rules.window * rules.plans * rules.pools + rules.running_rows] = 1


@unit
def see_place(w, e):
    """Fill what is seen of gangs but the candidates, which ``survey`` has filled; and the info."""
    gangs = w.gangs[e]
    observe_cluster(w, e, gangs)
    observe_devices(w, e)
    write_info(w, e, gangs)
    if w.clock[e].due != PLACE and w.clock[e].due != NOTHING:
        return
    observe_queue(w, e)
    if w.clock[e].due == NOTHING:
        show_nothing(w, e)
    offered = w.feasible.shape[1]  # other decisions may have more candidates
    for candidate in range(w.action_mask.shape[1]):
        w.action_mask[e, candidate] = w.feasible[e, candidate] if candidate < offered else 0


@kernel
def write_info(w, e, gangs):
    """Fill the metrics so far."""
    row = w.numbers[e, w.layout[0].info_place :]
    clock, devices = w.clock[e], w.devices[e]
    done, counted = max(gangs.finished, 1), max(gangs.counted, 1)
    gpu_s = devices.total_gpus * clock.now_s
    row[INFO.time_s] = clock.now_s
    row[INFO.arrived] = gangs.arrived - gangs.services
    row[INFO.finished] = gangs.finished
    row[INFO.invalid_actions] = clock.invalid_actions
    row[INFO.preemptions] = gangs.preemptions
    row[INFO.failures] = gangs.failures
    row[INFO.jct_mean_s] = gangs.jct_s / counted
    row[INFO.jrt_mean_s] = gangs.jrt_s / counted
    row[INFO.jwt_mean_s] = gangs.jwt_s / counted
    row[INFO.slowdown_mean] = gangs.slowdown / counted
    row[INFO.contention_mean] = gangs.contention / done
    row[INFO.utilisation] = devices.busy_gpu_s / gpu_s if clock.now_s > 0.0 else 0.0
    waited_s = gangs.head_wait_s
    row[INFO.network_wait_share] = gangs.network_wait_s / waited_s if waited_s > 0.0 else 0.0
    row[INFO.cost] = devices.cost
    row[INFO.energy_kwh] = devices.energy_j / JOULES_PER_KWH
    row[INFO.fragmentation] = devices.fragmented_gpu_s / gpu_s if clock.now_s > 0.0 else 0.0
    row[INFO.truncated_reason] = clock.truncated
