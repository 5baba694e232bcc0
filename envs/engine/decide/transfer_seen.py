"""What a router sees of where a KV cache would move, where deployments prefer a domain for that."""

from __future__ import annotations

from ..core.compile import kernel
from ..services.reach import stays_near
from .columns import places

CANDIDATE = places("candidates", "transfer")


@kernel(inline=False)
def observe_transfers(w, e, index):
    """Fill the column of each feasible replica for request ``index``; the others are 0 before."""
    begin = w.layout[0].candidates_transfer
    for r in range(len(w.replica_specs)):
        if w.action_mask[e, r] == 1:
            near = stays_near(w, e, r, w.requests[e, index])
            w.candidates[e, r, begin + CANDIDATE.near] = near
