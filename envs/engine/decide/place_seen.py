"""What a policy sees of a placement world; the columns stand in :mod:`gpuyard.envs.observation`."""

from __future__ import annotations

from ..core.compile import kernel
from ..devices.nodes import node_in_leaf
from ..gangs.plans import ISOLATED, SPREAD, choose, is_unused, leaf_free, nodes_needed, pool_nodes
from .columns import places, scaling, squash
from .place import may_run_on, may_start, may_stop

COMMON = places("cluster", "common")
QUEUED = places("queue", "common")
CLUSTER = places("cluster", "place")
QUEUE = places("queue", "place")
CANDIDATE = places("candidates", "place")
CLUSTER_OFFSET, CLUSTER_SLOPE = scaling("cluster", "place")
QUEUE_OFFSET, QUEUE_SLOPE = scaling("queue", "place")
CANDIDATE_OFFSET, CANDIDATE_SLOPE = scaling("candidates", "place")


@kernel
def survey_links(w, e):
    """Find each leaf's mean link load and the unused uplinks of its fullest switch."""
    ups = w.circuits.shape[1] * w.circuits.shape[2]
    up_begin = 2 * len(w.specs)
    for leaf in range(len(w.leaf_pods)):
        total, links, least = 0.0, 0, w.circuits.shape[2]
        for switch in range(w.switch_begin[leaf], w.switch_begin[leaf + 1]):
            unused = 0
            for uplink in range(w.circuits.shape[2]):
                link = up_begin + switch * w.circuits.shape[2] + uplink
                total += w.load[e, link] / w.capacity[link]
                total += w.load[e, link + ups] / w.capacity[link + ups]
                links += 2
                unused += is_unused(w, e, switch, uplink)
            least = min(least, unused)
        w.leaf_load[e, leaf] = min(total / links, 1.0) if links > 0 else 0.0
        w.leaf_uplinks[e, leaf] = least


@kernel
def head_fits(w, e, env):
    """Tell whether enough whole nodes of one pool are free for the oldest pending gang."""
    if env.queue_head < 0:
        return 0
    job = w.jobs[e, env.queue_head]
    for pool in range(int(w.config[0].pools)):
        if not may_run_on(w, job, pool):
            continue
        gpus = pool_nodes(w, pool)
        need = min(job.gpus, gpus)
        found = 0
        for leaf in range(len(w.leaf_pods)):
            if w.leaf_pools[leaf] == pool:
                for level in range(need, gpus + 1):
                    found += w.leaf_hist[e, leaf, level]
        if found >= nodes_needed(w, job, gpus):
            return 1
    return 0


@kernel
def plan_id(w, e, job, plan, spans, gpus):
    """Return a number that two plans of a gang share only if they choose the same nodes."""
    if job.gpus <= gpus:
        return node_in_leaf(w, e, w.chosen[e, 0], job.gpus, plan == SPREAD) + 1
    number = 17
    for leaf in range(len(w.leaf_pods)):
        number = (number * 31 + int(w.counts[e, leaf])) % 2147483647
    return number


@kernel
def fill_common(row, at, position, now_s, job):
    """Fill the columns that describe a gang, pending or running."""
    row[at + CANDIDATE.position] = position
    row[at + CANDIDATE.gpus] = job.gpus
    row[at + CANDIDATE.estimate_s] = job.estimate_s
    row[at + CANDIDATE.age_s] = now_s - job.arrival_s
    row[at + CANDIDATE.executed_s] = job.ran_s
    row[at + CANDIDATE.priority] = job.priority


@kernel
def fill_place(w, e, env, row, position, job, plan, pool, spans, gpus):
    """Fill the row of starting a gang as ``chosen`` and ``counts`` say."""
    at = w.layout[0].candidates_place
    row[:] = 0.0
    row[at + CANDIDATE.is_place] = 1.0
    fill_common(row, at, position, env.now_s, job)
    row[at + CANDIDATE.plan_pack + plan] = 1.0
    fastest = 0.0
    for other in range(w.config[0].pools):
        fastest = max(fastest, w.speeds[job.kind, other])
    first = w.specs[w.leaf_begin[w.chosen[e, 0]]]
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
        partial = env.partial_gpus - (before if before < gpus else 0) + before - job.gpus
    else:
        partial = env.partial_gpus + nodes * gpus - job.gpus
    free_after = env.free_gpus - job.gpus
    row[at + CANDIDATE.speed] = w.speeds[job.kind, pool] / fastest
    row[at + CANDIDATE.nodes] = nodes
    row[at + CANDIDATE.price] = first.price_per_h * job.gpus
    row[at + CANDIDATE.leafs] = spans
    row[at + CANDIDATE.leftover] = (left - job.gpus) / total
    row[at + CANDIDATE.fragmentation] = partial / free_after if free_after > 0 else 0.0
    row[at + CANDIDATE.link_load] = load if spans > 1 else 0.0
    row[at + CANDIDATE.sharing] = sharing if spans > 1 and plan < ISOLATED else 0
    row[at + CANDIDATE.comm_share] = w.kinds[job.kind].comm_share
    row[at + CANDIDATE.free_after] = free_after / env.total_gpus
    row[at + CANDIDATE.tenant_share] = min(
        (w.tenant_gpus[e, job.tenant] + job.gpus) / w.quotas[job.tenant], 1.0
    )
    squash(row, at, CANDIDATE_OFFSET, CANDIDATE_SLOPE)


@kernel
def survey_gang(w, e, env, position, j, ids):
    """Fill the candidates of one pending gang; returns how many are feasible."""
    c, job = w.config[0], w.jobs[e, j]
    begin = position * c.plans * c.pools
    feasible = 0
    for pool in range(int(c.pools)):  # of one type here and in ``place``: compiled once
        gpus = pool_nodes(w, pool)
        for plan in range(int(c.plans)):
            at = begin + plan * c.pools + pool
            spans = 0
            if may_run_on(w, job, pool):
                spans = choose(w, e, job, plan, pool)
            if spans > 0 and plan < ISOLATED:
                number = plan_id(w, e, job, plan, spans, gpus)
                for earlier in range(plan):
                    if ids[begin + earlier * c.pools + pool] == number:
                        spans = 0
                ids[at] = number if spans > 0 else 0
            if spans == 0:
                w.candidates[e, at, :] = 0.0
                continue
            fill_place(w, e, env, w.candidates[e, at], position, job, plan, pool, spans, gpus)
            w.feasible[e, at] = 1
            feasible += 1
    return feasible


@kernel
def survey_running(w, e, env, begin):
    """Fill the rows of preempting the gangs that started last; returns how many are feasible."""
    feasible, at = 0, w.layout[0].candidates_place
    j = env.running_head
    for i in range(w.config[0].running_rows):
        row = w.candidates[e, begin + i]
        row[:] = 0.0
        if j < 0:
            continue
        job = w.jobs[e, j]
        if env.pending > 0 and may_stop(w, env, job):
            row[at + CANDIDATE.is_preempt] = 1.0
            fill_common(row, at, i, env.now_s, job)
            row[at + CANDIDATE.executed_s] += env.now_s - job.start_s
            row[at + CANDIDATE.leafs] = job.leafs
            row[at + CANDIDATE.comm_share] = job.duty
            row[at + CANDIDATE.free_after] = (env.free_gpus + job.gpus) / env.total_gpus
            squash(row, at, CANDIDATE_OFFSET, CANDIDATE_SLOPE)
            w.feasible[e, begin + i] = 1
            feasible += 1
        j = job.next
    return feasible


@kernel(inline=False)
def survey(w, e, env, may_wait):
    """Fill all candidates and their mask; returns how many besides waiting are feasible."""
    c = w.config[0]
    per_gang = c.plans * c.pools
    survey_links(w, e)
    env.head_fits = head_fits(w, e, env)
    w.feasible[e, :] = 0
    feasible = 0
    j = env.queue_head
    for position in range(c.window):
        begin = position * per_gang
        if j >= 0 and may_start(w, e, env, w.jobs[e, j]):
            feasible += survey_gang(w, e, env, position, j, w.plan_ids[e])
        else:
            w.candidates[e, begin : begin + per_gang, :] = 0.0
        if j >= 0:
            j = w.jobs[e, j].next
    begin = c.window * per_gang
    feasible += survey_running(w, e, env, begin)
    wait, own = begin + c.running_rows, begin + c.running_rows + 1
    at = w.layout[0].candidates_place
    w.candidates[e, wait : own + 1, :] = 0.0
    w.candidates[e, wait, at + CANDIDATE.is_wait] = 1.0
    w.candidates[e, own, at + CANDIDATE.is_own] = 1.0
    w.feasible[e, wait] = may_wait or feasible == 0
    return feasible


@kernel
def observe_queue(w, e, env):
    """Fill a row for each pending gang of the window, oldest first."""
    j, at = env.queue_head, w.layout[0].queue_place
    for position in range(w.queue.shape[1]):
        row = w.queue[e, position]
        row[:] = 0.0
        if j < 0:
            continue
        job = w.jobs[e, j]
        row[QUEUED.is_gang] = 1.0
        row[at + QUEUE.gpus] = job.gpus
        row[at + QUEUE.estimate_s] = job.estimate_s
        row[at + QUEUE.age_s] = env.now_s - job.arrival_s
        row[at + QUEUE.priority] = job.priority
        row[at + QUEUE.executed_s] = job.ran_s
        row[at + QUEUE.comm_share] = w.kinds[job.kind].comm_share
        row[at + QUEUE.required] = job.required / 3.0
        row[at + QUEUE.preferred] = job.preferred / 3.0
        row[at + QUEUE.tenant_share] = min(w.tenant_gpus[e, job.tenant] / w.quotas[job.tenant], 1.0)
        row[at + QUEUE.preemptions] = job.preemptions
        squash(row, at, QUEUE_OFFSET, QUEUE_SLOPE)
        j = job.next


@kernel
def lost_speed(w, e, env):
    """Return the share of speed that running gangs lose to contention, averaged over gangs."""
    lost = 0.0
    j = env.running_head
    while j >= 0:
        job = w.jobs[e, j]
        lost += 1.0 - job.ideal_s / job.iteration_s
        j = job.next
    return min(max(lost / env.running, 0.0), 1.0) if env.running > 0 else 0.0


@kernel
def observe_cluster(w, e, env):
    """Fill what holds for the whole world."""
    row, at = w.cluster[e], w.layout[0].cluster_place
    empty, mean, highest = 0, 0.0, 0.0
    for leaf in range(len(w.leaf_pods)):
        empty += w.leaf_hist[e, leaf, w.specs[w.leaf_begin[leaf]].gpus]
        mean += w.leaf_load[e, leaf] / len(w.leaf_pods)
        highest = max(highest, w.leaf_load[e, leaf])
    row[COMMON.kind_route] = 0.0
    row[COMMON.kind_place] = env.pending > 0
    row[COMMON.kind_scale] = 0.0
    row[COMMON.progress] = env.finished / env.num_jobs
    row[at + CLUSTER.arrival_rate] = 3600.0 / env.gap_s if env.gap_s > 0.0 else 0.0
    row[at + CLUSTER.pending] = env.pending
    row[at + CLUSTER.pending_gpus] = env.pending_gpus
    row[at + CLUSTER.running] = env.running
    row[at + CLUSTER.free] = env.free_gpus / env.total_gpus
    row[at + CLUSTER.down] = env.down_gpus / env.total_gpus
    row[at + CLUSTER.empty_nodes] = empty / len(w.specs)
    row[at + CLUSTER.fragmentation] = env.partial_gpus / env.free_gpus if env.free_gpus > 0 else 0.0
    row[at + CLUSTER.link_mean] = min(mean, 1.0)
    row[at + CLUSTER.link_max] = highest
    row[at + CLUSTER.contention] = lost_speed(w, e, env)
    squash(row, at, CLUSTER_OFFSET, CLUSTER_SLOPE)


@kernel
def observe_devices(w, e):
    """Fill devices and links: each one, or aggregated per leaf."""
    for at in range(w.memory.shape[1]):
        w.memory[e, at] = min(max(w.used_memory[e, at], 0.0), 1.0)
        w.device_load[e, at] = min(max(w.used_load[e, at], 0.0), 1.0)
    if w.config[0].aggregate == 1:
        for leaf in range(len(w.leaf_pods)):
            w.link_load[e, leaf] = w.leaf_load[e, leaf]
        return
    for link in range(len(w.capacity)):
        w.link_load[e, link] = min(w.load[e, link] / w.capacity[link], 1.0)


@kernel
def observe(w, e, env):
    """Fill every key of environment ``e`` but the candidates, which ``survey`` has filled."""
    observe_cluster(w, e, env)
    observe_queue(w, e, env)
    observe_devices(w, e)
    for candidate in range(w.mask.shape[1]):
        w.mask[e, candidate] = w.feasible[e, candidate]


@kernel
def write_info(w, e, env, numbers):
    """Fill the metrics so far, in the order of ``INFO_KEYS``, behind the reward."""
    row = numbers[e]
    done = max(env.finished, 1)
    row[1] = env.now_s
    row[2] = env.arrived
    row[3] = env.finished
    row[4] = env.invalid_actions
    row[5] = env.preemptions
    row[6] = env.failures
    row[7] = env.jct_s / done
    row[8] = env.jrt_s / done
    row[9] = env.jwt_s / done
    row[10] = env.slowdown / done
    row[11] = env.contention / done
    row[12] = env.busy_gpu_s / (env.total_gpus * env.now_s) if env.now_s > 0.0 else 0.0
    row[13] = env.network_wait_s / env.head_wait_s if env.head_wait_s > 0.0 else 0.0
    row[14] = env.cost
    row[15] = env.energy_j / 3.6e6
    row[16] = env.fragmented_gpu_s / (env.total_gpus * env.now_s) if env.now_s > 0.0 else 0.0
