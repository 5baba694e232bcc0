"""What is seen of requests that may end unserved: the columns of the block ``gate``."""

from __future__ import annotations

import math

from ..core.compile import kernel
from ..serving.refusal import has_gate
from .columns import info_places, places, scaling, squash

CLUSTER = places("cluster", "gate")
QUEUE = places("queue", "gate")
CANDIDATE = places("candidates", "gate")
INFO = info_places("gate")
CLUSTER_OFFSET, CLUSTER_SLOPE = scaling("cluster", "gate")
QUEUE_OFFSET, QUEUE_SLOPE = scaling("queue", "gate")
ROUTE = places("candidates", "route")
WAIT_SCALE_S = float(scaling("candidates", "route")[0][ROUTE.wait_s])
REJECT_WAIT_S = 86_400.0  # so that a rule that adds up costs does not refuse by accident


@kernel
def reject_row(w):
    """Return the candidate that stands for refusing the request, behind that of holding it."""
    return len(w.replica_specs) + (1 if w.serving_rules[0].hold_s > 0.0 else 0)


@kernel
def observe_reject(w, e, best):
    """Fill the row of refusing the request: the ``best`` replica's, with a wait of a day."""
    row = w.candidates[e, reject_row(w)]
    route = row[w.layout[0].candidates_route :]
    if best >= 0:
        for column in range(len(row)):
            row[column] = w.candidates[e, best, column]
    route[ROUTE.wait_s] = REJECT_WAIT_S / (WAIT_SCALE_S + REJECT_WAIT_S)
    route[ROUTE.is_hold] = 0.0
    row[w.layout[0].candidates_gate + CANDIDATE.is_reject] = 1.0


@kernel
def observe_deadline(w, e, row, now_s, request):
    """Fill the columns of one row of the queue."""
    if has_gate(w):
        has_deadline = request.deadline_s < math.inf
        out = w.queue[e, row, w.layout[0].queue_gate :]
        out[QUEUE.has_deadline] = has_deadline
        out[QUEUE.left_s] = max(request.deadline_s - now_s, 0.0) if has_deadline else 0.0
        squash(out, QUEUE_OFFSET, QUEUE_SLOPE)


@kernel
def observe_gate(w, e, router):
    """Fill the columns of the cluster, and the numbers of the info."""
    if has_gate(w):
        out = w.cluster[e, w.layout[0].cluster_gate :]
        out[CLUSTER.since_s] = w.clock[e].now_s - router.decided_s
        unserved = router.rejected + router.expired
        out[CLUSTER.unserved] = unserved / router.arrived if router.arrived > 0 else 0.0
        squash(out, CLUSTER_OFFSET, CLUSTER_SLOPE)
        info = w.numbers[e, w.layout[0].info_gate :]
        info[INFO.rejected], info[INFO.expired] = router.rejected, router.expired
