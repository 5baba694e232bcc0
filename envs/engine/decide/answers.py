"""Replicas while sessions answer back.

A turn arrives when the one before has its last token and its tool has run, so a step that could end
a request is a moment of the world. Replicas are brought forward one by one, the one whose step ends
first to the end of the next one's, until a turn becomes known or the moment has come that somebody
else waits for. So nobody runs past a moment at which a request could still come. Replicas that
share a KV store take single steps, so that nobody reads what is yet to be written.
"""

from __future__ import annotations

import math

from ..core.compile import kernel
from ..services.moments import is_followed
from ..serving.advance import shares_store
from ..serving.replica import advance_replica
from ..serving.runs import next_step_s
from .route_seen import report


@kernel
def report_by(w, e, r, until_s):
    """Let a replica make the last report that was due by ``until_s``, at its moment."""
    replica, interval_s = w.replicas[e, r], w.router[e].signal_interval_s
    if interval_s > 0.0:
        report_s = math.floor(until_s / interval_s) * interval_s
        if report_s > replica.report_s:
            advance_replica(w, e, r, report_s)
            report(w, e, r, report_s, replica, w.replica_specs[r], w.costs[replica.kind])


@kernel(inline=False)
def serve_on(w, e, until_s) -> bool:
    """Let replicas serve on, in order of time, to ``until_s`` or until a turn becomes known.

    Steps that services follow are moments of their own. False if nobody had anything to do.
    """
    router = w.router[e]
    unknown, has_moved = router.unknown, False
    while router.unknown == unknown:
        first, first_s, second_s = -1, math.inf, math.inf
        for r in range(len(w.replica_specs)):
            if len(w.roles) > 0 and is_followed(w, e, r):
                continue
            step_s = next_step_s(w.replicas[e, r])
            if step_s < first_s:
                first, first_s, second_s = r, step_s, first_s
            else:
                second_s = min(second_s, step_s)
        if first < 0 or first_s > until_s:
            break
        to_s = first_s if shares_store(w) else min(second_s, until_s)
        if router.signal_interval_s > 0.0:  # not past the next report
            report_by(w, e, first, first_s)
            reports = math.floor(first_s / router.signal_interval_s) + 1.0
            to_s = min(to_s, max(reports * router.signal_interval_s, first_s))
        advance_replica(w, e, first, to_s)
        has_moved = True
    return has_moved
