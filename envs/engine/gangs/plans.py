"""Plans: which nodes a gang would get.

A gang of n GPUs on nodes of G takes ``ceil(n / G)`` nodes, whole ones if there is more than one.
A plan fills ``chosen`` with the leafs in order and ``counts[leaf]`` with the nodes of each.

- `pack`: tightest node; for several nodes the tightest leaf, else the tightest pod, else all of the
  pool; in it the leafs with the most room first, the last one as tight as possible.
- `fewest_leafs`: leafs with the most room first, whatever their pod.
- `pod`: tightest pod, in it the leafs with the least room first, which uses up fragments.
- `spread`: emptiest node; several nodes are dealt one by one over all leafs with room.
- `least_loaded`: leafs whose links are least loaded first.
- `isolated`: equal shares of several leafs, with as many uplinks of each as it has GPUs there, to
  the same spines; the uplinks become the gang's own.
- `optical`: the same over circuits that are set for it.

Sources: `pack` is best fit by levels as KAI-Scheduler and Slurm's topology/tree do it, `spread`
Kubernetes' LeastAllocated, `isolated` and `optical` the virtual Clos of arXiv 2308.05692 with
greedy choices in place of its integer programs (those are baselines).
"""

from __future__ import annotations

from ...hardware.cluster import LEVELS
from ...observation import CANDIDATES
from ..core.compile import kernel
from ..core.owners import FREE
from ..core.units import unit

PLAN_NAMES = tuple(
    column.name.removeprefix("plan_")
    for column in CANDIDATES["place"]
    if column.name.startswith("plan_")
)
PACK, FEWEST_LEAFS, POD, SPREAD, LEAST_LOADED, ISOLATED, OPTICAL = range(len(PLAN_NAMES))
NODE, LEAF, IN_POD, ZONE = range(len(LEVELS))  # levels of ``required``


@kernel
def nodes_needed(w, job, pool_gpus):
    """Return how many nodes of ``pool_gpus`` GPUs a gang takes."""
    return (job.gpus + pool_gpus - 1) // pool_gpus


@kernel
def one_node(w, e, pool, need, most):
    """Choose the leaf that holds the tightest (or emptiest) node with ``need`` free GPUs."""
    top = w.leaf_hist.shape[2] - 1
    level = top if most else need
    while need <= level <= top:
        best, best_free = -1, 0
        for leaf in range(len(w.leaf_pods)):
            if w.leaf_pools[leaf] != pool or w.leaf_hist[e, leaf, level] == 0:
                continue
            free = leaf_free(w, e, leaf)
            if best < 0 or (free > best_free if most else free < best_free):
                best, best_free = leaf, free
        if best >= 0:
            w.chosen[e, 0] = best
            w.counts[e, best] = 1
            return 1
        level += -1 if most else 1
    return 0


@kernel
def leaf_free(w, e, leaf):
    """Return the free GPUs of a leaf."""
    free = 0
    for level in range(1, w.leaf_hist.shape[2]):
        free += level * w.leaf_hist[e, leaf, level]
    return free


@kernel
def room(w, e, leaf, pool, gpus):
    """Return the wholly free nodes of a leaf, 0 if it is of another pool."""
    return w.leaf_hist[e, leaf, gpus] if w.leaf_pools[leaf] == pool else 0


@kernel
def tightest_leaf(w, e, pool, gpus, nodes):
    """Return the leaf with the fewest wholly free nodes, but ``nodes``; -1 if there is none."""
    best = -1
    for leaf in range(len(w.leaf_pods)):
        here = room(w, e, leaf, pool, gpus)
        if here >= nodes and (best < 0 or here < room(w, e, best, pool, gpus)):
            best = leaf
    return best


@kernel
def pod_end(w, begin):
    """Return the leaf behind the last one of the pod that starts at leaf ``begin``."""
    end = begin + 1
    while end < len(w.leaf_pods) and w.leaf_pods[end] == w.leaf_pods[begin]:
        end += 1
    return end


@kernel
def tightest_pod(w, e, pool, gpus, nodes):
    """Return the first leaf of the pod with the fewest wholly free nodes, but ``nodes``; or -1."""
    best, best_room = -1, 0
    begin = 0
    while begin < len(w.leaf_pods):
        end = pod_end(w, begin)
        here = 0
        for leaf in range(begin, end):
            here += room(w, e, leaf, pool, gpus)
        if here >= nodes and (best < 0 or here < best_room):
            best, best_room = begin, here
        begin = end
    return best


@kernel
def better(w, e, plan, here, there, leaf, best, rest):
    """Tell whether to take ``leaf`` with ``here`` free nodes before ``best`` with ``there``."""
    if plan == LEAST_LOADED:
        return w.leaf_load[e, leaf] < w.leaf_load[e, best]
    if plan == POD:
        return here < there
    if here >= rest and there >= rest:
        return here < there  # the last one: as tight as possible
    return here > there


@kernel
def fill(w, e, plan, pool, gpus, nodes, begin, end):
    """Take ``nodes`` from the leafs ``begin .. end`` in the plan's order; returns how many leafs.

    0 if they have too few.
    """
    rest = nodes
    spans = 0
    while rest > 0:
        best, best_room = -1, 0
        for leaf in range(begin, end):
            here = room(w, e, leaf, pool, gpus)
            if here == 0 or w.counts[e, leaf] > 0:
                continue
            if best < 0 or better(w, e, plan, here, best_room, leaf, best, rest):
                best, best_room = leaf, here
        if best < 0:
            return 0
        w.chosen[e, spans] = best
        w.counts[e, best] = min(best_room, rest)
        rest -= w.counts[e, best]
        spans += 1
    return spans


@kernel
def deal(w, e, pool, gpus, nodes, begin, end):
    """Take ``nodes`` one by one from the leafs ``begin .. end`` in turn; returns how many leafs."""
    rest = nodes
    while rest > 0:
        dealt = False
        for leaf in range(begin, end):
            if rest > 0 and room(w, e, leaf, pool, gpus) > w.counts[e, leaf]:
                w.counts[e, leaf] += 1
                rest -= 1
                dealt = True
        if not dealt:
            return 0
    spans = 0
    for leaf in range(begin, end):
        if w.counts[e, leaf] > 0:
            w.chosen[e, spans] = leaf
            spans += 1
    return spans


@kernel
def is_unused(w, e, switch, uplink):
    """Tell whether an uplink carries nothing and belongs to nobody."""
    return w.uplink_owner[e, switch, uplink] == FREE and w.uplink_users[e, switch, uplink] == 0


@kernel
def has_way_up(w, e, leaf):
    """Tell whether each switch of a leaf has an uplink that nobody reserved and that is lit."""
    for switch in range(w.switch_begin[leaf], w.switch_begin[leaf + 1]):
        uplink = 0
        while uplink < w.circuits.shape[2] and (
            w.uplink_owner[e, switch, uplink] != FREE or w.circuits[e, switch, uplink] < 0
        ):
            uplink += 1
        if uplink == w.circuits.shape[2]:
            return False
    return True


@kernel
def if_joined(w, e, spans):
    """Return ``spans`` if the chosen leafs can reach each other, else 0."""
    if spans > 1:
        for i in range(spans):
            if not has_way_up(w, e, w.chosen[e, i]):
                return 0
    return spans


@kernel
def is_shared_free(w, e, spans, rail, uplink):
    """Tell whether uplink ``uplink`` is unused at switch ``rail`` of every chosen leaf."""
    for i in range(spans):
        switch = w.switch_begin[w.chosen[e, i]] + rail
        if not is_unused(w, e, switch, uplink):
            return False
    return True


@kernel
def have_common_uplinks(w, e, spans, need):
    """Tell whether the chosen leafs have ``need`` unused uplinks to the same spines, per rail."""
    first = w.chosen[e, 0]
    for rail in range(w.switch_begin[first + 1] - w.switch_begin[first]):
        count = 0
        for uplink in range(w.uplink_owner.shape[2]):
            count += is_shared_free(w, e, spans, rail, uplink)
        if count < need:
            return False
    return True


@kernel
def has_port(w, e, spine, uplink):
    """Tell whether a spine has a free port on optical switch ``uplink``."""
    fabric = w.fabric[0]
    return w.ports[e, spine, uplink] * fabric.uplinks < fabric.spine_ports


@kernel(inline=False)
def isolate(w, e, plan, pool, gpus, nodes, begin, end):
    """Choose equal shares of as few leafs of one pod as can be joined; returns how many leafs."""
    for spans in range(2, min(nodes, end - begin) + 1):
        if nodes % spans > 0:
            continue
        share = nodes // spans
        rails = w.switch_begin[begin + 1] - w.switch_begin[begin]
        need = share * gpus // rails
        w.counts[e, begin:end] = 0
        found = 0
        while found < spans:
            best = -1
            for leaf in range(begin, end):
                here = room(w, e, leaf, pool, gpus)
                if here < share or w.counts[e, leaf] > 0 or w.leaf_uplinks[e, leaf] < need:
                    continue
                if best < 0 or here < room(w, e, best, pool, gpus):
                    best = leaf
            if best < 0:
                break
            w.chosen[e, found] = best
            w.counts[e, best] = share
            found += 1
        if found == spans and (plan == OPTICAL or have_common_uplinks(w, e, spans, need)):
            return spans
    w.counts[e, begin:end] = 0
    return 0


@kernel
def isolate_somewhere(w, e, plan, job, pool, gpus, nodes):
    """Choose an isolated share of the first pod that has one; returns how many leafs.

    None is needed where a single leaf will do, and none exists for a gang that fills no whole
    nodes.
    """
    if job.gpus % gpus > 0 or tightest_leaf(w, e, pool, gpus, nodes) >= 0:
        return 0
    begin = 0
    while begin < len(w.leaf_pods):
        end = pod_end(w, begin)
        if w.leaf_pools[begin] == pool:
            spans = isolate(w, e, plan, pool, gpus, nodes, begin, end)
            if spans > 0:
                return spans
        begin = end
    return 0


@kernel
def pool_nodes(w, pool):
    """Return the GPUs per node of a pool; 0 if it has no leaf."""
    for leaf in range(len(w.leaf_pools)):
        if w.leaf_pools[leaf] == pool:
            return w.node_specs[w.leaf_begin[leaf]].gpus
    return 0


@unit
def choose(w, e, j, plan, pool) -> int:
    """Fill ``chosen`` and ``counts`` with the plan for a gang; returns how many leafs, 0: none.

    Plans that cannot differ from `pack` for this gang count as none.
    """
    job = w.jobs[e, j]
    w.counts[e, :] = 0
    gpus = pool_nodes(w, pool)
    if job.gpus <= gpus:
        if plan == PACK:
            return one_node(w, e, pool, job.gpus, False)
        return one_node(w, e, pool, job.gpus, True) if plan == SPREAD else 0
    if job.required == NODE:
        return 0
    nodes = nodes_needed(w, job, gpus)
    if plan == ISOLATED or plan == OPTICAL:
        if job.required < IN_POD or (plan == OPTICAL) != (w.fabric[0].optical == 1):
            return 0
        return isolate_somewhere(w, e, plan, job, pool, gpus, nodes)
    if plan == PACK:
        leaf = tightest_leaf(w, e, pool, gpus, nodes)
        if leaf >= 0:
            w.chosen[e, 0] = leaf
            w.counts[e, leaf] = nodes
            return 1
    if job.required == LEAF:
        return 0
    begin, end = 0, len(w.leaf_pods)
    if plan == PACK or plan == POD or job.required == IN_POD:
        pod = tightest_pod(w, e, pool, gpus, nodes)
        if pod >= 0:
            begin, end = pod, pod_end(w, pod)
        elif job.required == IN_POD:
            return 0
    if plan == SPREAD:
        return if_joined(w, e, deal(w, e, pool, gpus, nodes, begin, end))
    return if_joined(w, e, fill(w, e, plan, pool, gpus, nodes, begin, end))
