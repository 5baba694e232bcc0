"""Bringing replicas that share a KV store to a moment.

Other replicas do not touch each other, so each goes its whole way at once. With a store the step
that is due first goes first, so that nobody reads what is yet to be written.
"""

from __future__ import annotations

import math

import numpy as np

from ..core.compile import kernel
from .ranks import is_due
from .replica import advance_replica


@kernel
def shares_store(w):
    """Tell whether a store is shared by replicas."""
    return len(w.replica_tiers) > 0 and w.replica_tiers[0].store >= 0


@kernel(inline=False)
def advance_in_order(w, e, until_s):
    """Advance every replica to ``until_s``, one step after another in the order of time."""
    while True:
        first, first_s = -1, math.inf
        for r in range(len(w.replica_specs)):
            replica = w.replicas[e, r]
            if is_due(replica, until_s):
                due_s = replica.end_s if replica.busy == 1 else replica.start_s
                if due_s < first_s:
                    first, first_s = r, due_s
        if first < 0:
            return
        if w.replicas[e, first].busy == 0:  # an idle one starts once the clock has moved on
            first_s = np.nextafter(first_s, math.inf)
        advance_replica(w, e, first, first_s)
