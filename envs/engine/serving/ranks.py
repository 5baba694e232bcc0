"""When replicas step: each by itself, or ranks that share experts in lock step.

With attention data parallelism each rank has its own queue, batch and KV cache, but the tokens of
all ranks meet in the experts: ranks begin their steps together, the slowest sets the pace, and a
rank with nothing to do goes along. Each rank is a row among the replicas, side by side. Source:
vLLM, ``vllm/v1/engine/core.py`` (``DPEngineCoreProc``: dummy batches while any rank works).
"""

from __future__ import annotations

import math

from ..core.compile import kernel


@kernel
def is_due(replica, until_s):
    """Tell whether advancing the replica to ``until_s`` would change anything."""
    if replica.busy == 1:
        return replica.end_s <= until_s
    return replica.waiting > 0 and replica.start_s < until_s


@kernel
def start_s_of(replica, until_s):
    """Return when a replica begins its next step, inf if not by then."""
    if not is_due(replica, until_s):
        return math.inf
    return replica.end_s if replica.busy == 1 else replica.start_s


@kernel
def next_start_s(w, e, first, ranks, until_s):
    """Return when the ranks from row ``first`` on begin their next step, inf if not by then.

    When the one under way ends, which is the same for all; or where all are idle, when the first
    of them that has a request starts.
    """
    start_s = start_s_of(w.replicas[e, first], until_s)
    if ranks > 1:
        for r in range(first + 1, first + ranks):
            start_s = min(start_s, start_s_of(w.replicas[e, r], until_s))
    return start_s


@kernel(inline=False)
def keep_pace(w, e, first, ranks, now_s):
    """Let the ranks' steps, which have begun at ``now_s``, end with the slowest of them."""
    longest_s = 0.0
    for r in range(first, first + ranks):
        if w.replicas[e, r].busy == 1:
            longest_s = max(longest_s, w.replicas[e, r].first_step_s)
    if longest_s == 0.0:  # all are idle
        return
    for r in range(first, first + ranks):
        replica = w.replicas[e, r]
        if replica.busy == 0:
            replica.tokens, replica.steps, replica.steps_with_blocks = 0, 1, 1
        replica.busy, replica.step_growth_s = 1, 0.0
        replica.start_s, replica.first_step_s = now_s, longest_s
        replica.end_s = now_s + longest_s
