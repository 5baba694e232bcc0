"""What is seen of moves; columns stand in :mod:`gpuyard.envs.observation`."""

from __future__ import annotations

from ..core.compile import kernel
from ..core.records import MIGRATE
from ..core.units import unit
from ..services.moving import computed_now, next_to_leave
from ..serving.growth import blocks_of, ceil_div
from .columns import info_places, places, scaling, squash
from .migrate import is_free, is_movable

CLUSTER = places("cluster", "migrate")
CANDIDATE = places("candidates", "migrate")
INFO = info_places("migrate")
CLUSTER_OFFSET, CLUSTER_SLOPE = scaling("cluster", "migrate")
CANDIDATE_OFFSET, CANDIDATE_SLOPE = scaling("candidates", "migrate")


@kernel
def observe_replica(w, e, r):
    """Fill the row of a replica that may give a request, or get the one that is to leave."""
    replica, spec, now_s = w.replicas[e, r], w.replica_specs[r], w.clock[e].now_s
    source = int(w.mover[e].source)
    w.action_mask[e, r] = is_movable(w, e, r)
    row = w.candidates[e, r, w.layout[0].candidates_migrate :]
    row[CANDIDATE.is_source] = r == source
    row[CANDIDATE.is_moving] = not is_free(w, e, r)
    row[CANDIDATE.requests] = replica.report_running + replica.report_waiting
    row[CANDIDATE.free_blocks] = spec.kv_blocks - replica.report_blocks
    row[CANDIDATE.queued_blocks] = ceil_div(replica.report_queued_tokens, spec.block_size)
    giver = r if source < 0 else source
    place = next_to_leave(w, e, giver)
    if place >= 0:
        computed = computed_now(w, e, giver, place, now_s, w.replicas[e, giver])
        row[CANDIDATE.request_blocks] = blocks_of(computed + 1, spec)
    squash(row, CANDIDATE_OFFSET, CANDIDATE_SLOPE)


@unit
def see_migrate(w, e):
    """Fill what is seen of moves, after all that is seen of requests; and the info."""
    mover, is_due = w.mover[e], w.clock[e].due == MIGRATE
    row = w.cluster[e, w.layout[0].cluster_migrate :]
    row[CLUSTER.kind_migrate] = is_due
    row[CLUSTER.has_source] = is_due and mover.source >= 0
    row[CLUSTER.moving] = mover.moving
    squash(row, CLUSTER_OFFSET, CLUSTER_SLOPE)
    info = w.numbers[e, w.layout[0].info_migrate :]
    info[INFO.migrations], info[INFO.migrations_given_up] = mover.arrived, mover.given_up
    info[INFO.migrated_blocks] = mover.blocks
    info[INFO.migration_pause_s] = mover.pause_s / mover.arrived if mover.arrived > 0 else 0.0
    if not is_due:
        return
    none = len(w.replica_specs)
    for r in range(none):
        observe_replica(w, e, r)
    w.candidates[e, none, w.layout[0].candidates_migrate + CANDIDATE.is_none] = 1.0
    w.action_mask[e, none] = 1
