"""The state of the world as records of plain numbers.

Every array of records has a leading environment axis; what all environments share
(``REPLICA_SPEC``, cost tables) has none. Records copy and pickle as bytes, which is what
``get_state`` does. Indices are -1 where there is nothing to point at; times are NaN until they are
known. Those that the engine reads most are aligned, so that no number lies on two lines of the
processor's cache.
"""

from __future__ import annotations

import numpy as np

from ...reward import terms
from ...rules import SLO, Router, numbers

SERVING, OFF, QUEUED, STARTING, DRAINING, TURNING = range(6)
"""Phase of a replica: it takes requests; there is none; its gang waits for devices; it has them and
loads; it takes no more; it waits for the devices of one of another role, which drains. A replica
that stands outside any cluster serves all the time."""

AGGREGATED, PREFILL, DECODE = range(3)
"""What a replica does: both, or hands its requests over after the prompt, or takes them then."""

WHOLE, HANDED, COMING, MOVING = range(4)
"""Stage of a request: on one replica, or about to be; its prompt is computed, or just about to be,
and nobody has been chosen to go on; waits for blocks there; its KV cache is on its way."""

CONTINUOUS, STATIC, DYNAMIC = range(3)
"""How a replica forms batches."""

FCFS, PRIORITY, LPM, HRRN, VTC = range(5)
"""In which order it admits: first come first served, priority, longest cached prefix, response
ratio, least served client."""

PAGED, MAXIMUM, POWER_OF_TWO, ORACLE = range(4)
"""How it reserves KV blocks: as tokens come; or in one chunk for all that a request may have, for
its output rounded up to a power of two, for what it will have."""

REQUEST = np.dtype(
    [
        # the request as it arrives
        ("arrival_s", "f8"),
        ("prompt_tokens", "i4"),
        ("output_tokens", "i4"),
        ("max_tokens", "i4"),  # the public bound on its output
        ("estimate_tokens", "i4"),  # what the router believes the output will be
        ("session", "i4"),
        ("previous", "i4"),  # this session's request before this one
        ("following", "i4"),  # this session's turn that waits for this one's answer, -1: none
        ("think_s", "f8"),  # from that answer to this one's arrival, NaN: it arrives by the clock
        ("forks", "i4"),  # first of the sub-sessions that its answer starts, which stand together
        ("num_forks", "i4"),
        ("joins", "i4"),  # answers that this turn still waits for
        ("prefix_begin", "i4"),  # into the environment's prefix ids
        ("prefix_count", "i4"),
        ("priority", "f4"),
        ("service", "i4"),  # whose replicas may take it
        ("client", "i4"),  # who sent it, 0 where there are no clients
        ("objective", "i4"),  # which objectives it has
        # what a step asks of each that waits, side by side: each is a line of memory to wait for
        ("adapter", "i4"),  # LoRA adapter that it names, -1: none
        ("next", "i4"),  # behind it in the queue it waits in
        ("blocks", "i4"),  # KV blocks held; stale while decoding
        ("deadline_s", "f8"),  # when it expires if no step has begun it, inf: never
        ("queued_s", "f8"),  # when it reaches the engine, behind the replica's front end
        # where it stands
        ("stage", "i4"),
        ("source", "i4"),  # prefill replica that held or holds its KV, -1: none
        ("there", "i4"),  # blocks reserved for it where it goes
        ("there_nodes", "i4"),  # of these, prefix nodes that are cached there and need not move
        ("sender", "i4"),  # what moves its KV cache: a place among the network's one-shot senders
        ("replica", "i4"),
        ("generated", "i4"),  # output tokens, kept over a preemption; stale while decoding
        ("computed", "i4"),  # tokens in the KV cache; stale while decoding
        ("chunk", "i4"),  # prompt tokens of the step under way, while it was admitted before
        ("nodes", "i4"),  # of its blocks, cached prefix nodes held: the first ones of its ids
        ("sealed", "i4"),  # 1: found its next prefix cached by another, registers no more
        ("cached_tokens", "i4"),  # prompt tokens that its first admission found cached
        ("fetched_tokens", "i4"),  # that came from KV tiers
        ("preemptions", "i4"),
        ("outcome", "i4"),  # whether it ended unserved, see refusal.py
        ("noted", "i4"),  # how far a fair queue knows of it, see fair.py
        ("work_s", "f8"),  # the router's estimate of its compute time
        ("retry_s", "f8"),  # when a held request is decided again
        ("computed_s", "f8"),  # when its prompt is computed, if it was handed over before
        ("sent_s", "f8"),  # when its KV cache set off
        ("arrive_s", "f8"),  # when it was there
        ("first_token_s", "f8"),
        ("finish_s", "f8"),
    ],
    align=True,
)

REPLICA_SPEC = np.dtype(  # one replica's fixed properties
    [
        ("max_num_seqs", "i4"),
        ("max_num_batched_tokens", "i4"),
        ("block_size", "i4"),
        ("kv_blocks", "i4"),
        ("window_groups", "i4"),  # further blocks per block_size tokens, of layers with a window
        ("window_blocks", "i4"),  # block_size tokens for which a sequence holds those at most
        ("state_blocks", "i4"),  # of a sequence's state in linear layers, whatever its length
        ("unit_tokens", "i4"),  # tokens of one prefix node, a multiple of block_size; 0: no reuse
        ("unit_blocks", "i4"),
        ("whole_prompt", "i4"),  # 1: admits only with free blocks for all known tokens
        ("lag", "i4"),  # 1: plans a step when the one before starts
        ("batching", "i4"),  # CONTINUOUS, STATIC or DYNAMIC
        ("batch_wait_s", "f8"),  # a dynamic batch waits so long to fill
        ("chunked", "i4"),  # 0: a prompt is computed whole
        ("most_chunk", "i4"),  # tokens of one prompt in a step at most
        ("prefill_first", "i4"),  # 1: decodes wait while there are prompts
        ("policy", "i4"),  # order of the queue
        ("reserves", "i4"),  # PAGED, or what a contiguous chunk is for
        ("frontend_s", "f8"),  # from the router to the engine
        ("kind", "i4"),  # row of the cost tables, on a cluster if on as few nodes as can be
        ("node_gpus", "i4"),  # its devices on one node then
        ("first_device", "i4"),
        ("num_devices", "i4"),
        ("weight_share", "f8"),  # device memory taken by all but the KV blocks
        ("kv_share", "f8"),  # device memory taken by all KV blocks
        ("capacity", "f8"),  # expected output throughput, 1 = the fastest replica
        ("token_s", "f8"),  # estimated compute seconds per output token at full batch
        ("price_per_h", "f8"),
        ("ring_key", "u8"),  # place on the consistent-hashing ring
        ("service", "i4"),  # whose requests it takes
        ("role", "i4"),  # of that service; -1: it stands outside the cluster, as the next ones
        ("gang", "i4"),  # job that holds its devices
        ("rank", "i4"),  # of its first device in that gang
        ("is_base", "i4"),  # 1: it is one of the least of its role, which start together
        ("base_rank", "i4"),  # of its first device among theirs
        ("gpus", "i4"),  # its devices there
        ("startup_s", "f8"),  # from its devices to its first request
        ("does", "i4"),
        ("local_tokens", "i4"),  # of a prompt, uncached, that a decode replica computes itself
        ("draft_length", "i4"),  # tokens that a sequence drafts in a step; 0: no speculation
        ("most_drafting", "i4"),  # sequences that decode in a step which drafts, at most
        ("lookahead", "i4"),  # tokens beyond the next one whose blocks a drafting sequence holds
        ("draft_rows", "i4"),  # of the cost tables, from the replica's to its drafter's; 0: none
        ("draft_s", "f8"),  # host time of a step that drafts
        ("draft_sequence_s", "f8"),  # and of each sequence in it
        ("accept_low", "f8"),  # least and largest rate at which a request accepts drafted tokens
        ("accept_high", "f8"),
        ("mean_accepted", "f8"),  # tokens of a sequence in a step that drafts
        ("step_ranks", "i4"),  # rows that step together, this one among them
        ("step_rank", "i4"),  # its number among those
    ],
    align=True,
)

REPLICA = np.dtype(
    [
        # the step, or run of equal decode steps, that is under way
        ("busy", "i4"),
        ("prefilling", "i4"),  # requests at the tail of the batch whose prompt is in this step
        ("steps", "i4"),  # planned steps of the run
        ("steps_with_blocks", "i4"),  # its first ones, whose KV blocks are taken
        ("start_s", "f8"),
        ("first_step_s", "f8"),
        ("step_growth_s", "f8"),  # each step of the run takes this much longer than the last
        ("end_s", "f8"),
        ("tokens", "i4"),  # tokens computed per step
        ("drafted", "i4"),  # of them by each decoding sequence, beside its own
        ("kind", "i4"),  # row of the cost tables, by the nodes that it lies on
        ("busy_s", "f8"),  # in steps that have ended
        ("computed_tokens", "i8"),  # in these
        ("waits_s", "f8"),  # that a step is longer for each token, for links that others use
        ("stalled", "i4"),  # 1: the step has prompts only, decodes wait
        ("padded", "i4"),  # prompt and output tokens of each sequence of a batch as a whole
        # the batch
        ("step_count", "i4"),
        ("running", "i4"),
        ("context_tokens", "i4"),  # cached tokens of all decoding sequences
        ("next_finish", "i4"),  # step count at which the next sequence finishes
        ("next_window", "i4"),  # step count at which the next sequence fills its window
        # the queue
        ("waiting", "i4"),
        ("head", "i4"),
        ("tail", "i4"),
        ("queued_tokens", "i8"),  # tokens of waiting and running requests still to be prefilled
        ("admitted", "i8"),  # requests with an adapter, so far
        ("last_client", "i4"),  # whose request left a fair queue last, -1: nobody's yet
        # KV blocks: free ones are queued for reuse, least recently used first
        ("free_blocks", "i4"),
        ("cached", "i4"),  # entries of prefix units that are cached here
        ("lru_head", "i4"),  # those that nobody holds
        ("lru_tail", "i4"),
        ("tail_blocks", "i4"),  # plain free blocks behind the last cached node
        # the router's own books
        ("in_flight", "i4"),
        ("in_flight_tokens", "i8"),
        ("work_s", "f8"),
        # the last report to the router
        ("report_s", "f8"),
        ("report_running", "i4"),
        ("report_waiting", "i4"),
        ("report_queued_tokens", "i8"),
        ("report_blocks", "i4"),
        ("report_context", "i4"),
        ("report_load", "f8"),
        ("report_link_load", "f8"),
        ("reported_busy_s", "f8"),  # in steps, up to the begin of this round of scale decisions
        ("report_busy", "f8"),  # share of the interval before it
        # where it stands on a cluster
        ("phase", "i4"),
        ("ready_s", "f8"),  # when it has started
        ("outdated", "i4"),  # 1: it takes new weights when its step ends
        ("resume_s", "f8"),  # no step begins before, for it takes new weights
        ("holding", "i4"),  # requests that it has handed over and whose KV it still holds
        ("coming", "i4"),  # requests that wait for blocks here to be handed over
        ("come_head", "i4"),
        ("come_tail", "i4"),
        ("heir", "i4"),  # replica of another role that gets its devices when it ends, -1: none
    ],
    align=True,
)

SLOT = np.dtype([("request", "i4"), ("finish_step", "i4")])  # one sequence of a running batch

PREFIX_MARK = np.dtype([("sent", "u8"), ("cached", "u8")])  # a prefix unit: a bit per replica

PREFIX_UNIT = np.dtype(  # a prefix unit of a request
    [
        ("node", "i4"),  # its prefix id
        ("entry", "i4"),  # where it is cached on the replica, while the request holds it
    ]
)

PREFIX_ENTRY = np.dtype(  # a prefix unit that is cached on a replica
    [
        ("node", "i4"),  # its prefix id, -1: the entry is free
        ("replica", "u2"),
        ("holders", "u2"),  # running requests that reference it
        ("lead", "i4"),  # plain free blocks queued just before it
        ("before", "i4"),  # in the replica's queue of free blocks
        ("after", "i4"),
        ("next", "i4"),  # in its chain of the hash table, or behind it if it is free
        ("since_s", "f8"),  # when it was cached
    ],
    align=True,
)

ROUTER = np.dtype(  # one record per environment
    [
        ("num_requests", "i4"),
        ("arrived", "i4"),
        ("openers", "i4"),  # requests that arrive by the clock: the first ones, in order
        ("begun", "i4"),  # of these, the ones that have arrived
        ("answers", "i4"),  # 1: sessions answer back, so that finishes are moments
        ("unknown", "i4"),  # turns whose arrival is not known yet
        ("due", "i4"),  # turns whose arrival is known and still to come
        ("deciding", "i4"),  # the request that needs a replica now
        ("finished", "i4"),
        ("held", "i4"),
        ("held_head", "i4"),
        ("held_tail", "i4"),
        ("parked", "i4"),  # requests that no replica could take
        ("parked_due", "i4"),  # of these, the first ones, to be decided again now
        ("parked_head", "i4"),
        ("parked_tail", "i4"),
        ("in_flight", "i4"),
        ("draft_seed", "u8"),  # of what requests accept of drafted tokens
        ("last_arrival_s", "f8"),
        ("gap_s", "f8"),  # moving averages over arrivals
        ("mean_prompt", "f8"),
        ("signal_interval_s", "f8"),  # between two reports in this episode; 0: always up to date
        ("preemptions", "i8"),
        ("invalid", "i8"),  # infeasible actions of routing
        ("rejected", "i8"),  # requests that ended unserved
        ("expired", "i8"),
        ("unserved_s", "f8"),  # from their arrivals to their ends
        ("last_client", "i4"),  # whose request was sent last, -1: nobody's yet
        ("decided_s", "f8"),  # when the request before the one under decision was decided about
        ("entries", "i4"),  # of cached prefix units, free ones among them
        ("free_entry", "i4"),
        # sums behind the metrics and the reward
        ("first_tokens", "i8"),
        ("multi_token", "i8"),  # finished requests of more than one output token
        ("ttft_s", "f8"),
        ("tpot_s", "f8"),
        ("e2e_s", "f8"),
        ("awaiting_arrival_s", "f8"),  # arrival times of requests without a first token
        ("unfinished_arrival_s", "f8"),
        ("slo_met", "i8"),
        ("output_tokens", "i8"),
        ("prompt_tokens", "i8"),
        ("cached_tokens", "i8"),
        ("last_finish_s", "f8"),
        ("sessions", "i4"),  # that answer back
        ("sessions_ended", "i4"),  # those that failed among them
        ("never_asked", "i4"),  # turns of sessions that failed before
        ("ended_90_s", "f8"),  # when 90 % of them had
        # steps of rollouts, with new weights between them
        ("step_sessions", "i4"),  # sessions of each, 0: all are of one
        ("step_most", "i4"),  # of them, those after whose end the next step begins
        ("step", "i4"),  # that has begun last
        ("step_ended", "i4"),  # its sessions that have ended
        ("stale_sessions", "i4"),  # that ended under later weights than their step's
        ("update_s", "f8"),
        ("keeps_cache", "i4"),
    ]
)

OBJECTIVE = np.dtype(numbers(SLO))  # of the requests of one service, or class of clients

SERVING_RULES = np.dtype(  # one record for the whole world: rules of the scenario, and weights
    [
        *numbers(Router),
        ("gated", "i4"),  # 1: requests may end unserved
        *((f"w_{term}", "f8") for term in terms("route")),
    ]
)
