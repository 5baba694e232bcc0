"""Ranks in lock step, naive: all begin together, and all wait for the slowest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from reference_engine import Replica
from reference_kv import Request, Served
from reference_serving import validate
from reference_steps import ReplicaSpec, Result

from gpuyard.envs.perf.serving.cost_table import CostTable


def simulate_ranks(
    specs: Sequence[ReplicaSpec],
    costs: Sequence[CostTable],
    requests: Sequence[Request],
    assignment: Sequence[int],
    seed: int = 0,
) -> Result:
    """Serve ``requests`` by ranks that step together, request i on rank ``assignment[i]``."""
    n = len(requests)
    result = Result([math.nan] * n, [math.nan] * n, [-1] * n, [0] * n, [], [])
    validate(specs, requests, assignment)
    ranks = [Replica(*pair, result) for pair in zip(specs, costs, strict=True)]
    for rank in ranks:
        rank.seed = seed
    coming = [
        [Served(i, requests[i]) for i in range(n) if assignment[i] == number]
        for number in range(len(ranks))
    ]
    now, began = 0.0, 0.0
    while any(coming) or any(rank.waiting or rank.running for rank in ranks):
        if not any(rank.waiting or rank.running for rank in ranks):
            reached = [
                queue[0].request.arrival_s + rank.spec.frontend_s
                for rank, queue in zip(ranks, coming, strict=True)
                if queue
            ]
            now = max(now, min(reached))
        for rank, queue in zip(ranks, coming, strict=True):
            seen = began if rank.spec.lag and rank.running else now
            while queue and queue[0].request.arrival_s + rank.spec.frontend_s <= seen:
                rank.waiting.append(queue.pop(0))
        working = [rank for rank in ranks if rank.waiting or rank.running]
        began, now = now, max(rank.begin_step(now, now) for rank in working)
        for rank in working:
            rank.under_way = replace(rank.under_way, end_s=now)
            rank.end_step()
    result.steps = [rank.steps for rank in ranks]
    return result
