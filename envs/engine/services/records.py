"""Services, their roles, and how the fleet of replicas stands.

A service is a deployment on the cluster: one or more roles, each with a row of replicas of which
some exist. Replicas are gangs: the least number of every role make up the service's base gang, one
gang that starts all at once or not at all; each further replica is a scaled gang of its own.
Source: Grove, base and scaled PodGangs (``operator/internal/controller/podcliqueset``). Where a
replica of the base gang may fail without the others, the base gang is there to start with: once it
has its devices, each of its replicas stands in a gang of its own.

The gang of a replica stands in front of all jobs: services are the oldest in the queue.
"""

from __future__ import annotations

import numpy as np

from ...rules import Scaler, numbers

SERVICE = np.dtype(  # what all environments share
    [
        ("base_gang", "i4"),  # -1: none
        ("base_replicas", "i4"),  # in that
        ("splits", "i4"),  # 1: its replicas stand in gangs of their own once it has started
        ("termination_delay_s", "f8"),  # inf: never
        ("staleness_grace_s", "f8"),  # inf: never
        ("asked_at_s", "f8"),  # when its gangs queue for the first time
    ]
)

ROLE = np.dtype(  # what all environments share
    [
        ("service", "i4"),
        ("least", "i4"),  # replicas; these are in the base gang
        ("most", "i4"),
        ("initial", "i4"),  # asked for when its service is
        ("after", "i4"),  # role whose least replicas must serve before one starts, -1: none
        ("first", "i4"),  # its first replica; they stand in a row
        ("gpus", "i4"),  # of a replica
        ("ranks", "i4"),  # the first ones of these, which hold a sequence's KV cache
        ("startup_s", "f8"),
        ("change_s", "f8"),  # for a drained replica of another role to become one of it
        ("price_per_h", "f8"),  # of a replica
        ("farthest", "i4"),  # level of the widest domain in which KV caches move
        ("nearest", "i4"),  # level of the domain in which they should
        ("layers", "i4"),  # of a KV cache that goes layer by layer beside its prompt, 0: after it
        # decode: what handing a request over to it takes
        ("lacking", "i4"),  # 1: only the blocks move that its prefix cache lacks
        ("handover_s", "f8"),  # software around it
        ("kv_block_bytes", "f8"),  # of a block on all ranks
        ("nic_block_post_s", "f8"),  # host time of posting it over NICs, beside the bytes' way
        ("nic_start_s", "f8"),  # over NICs: before the first byte and after the last
        ("domain_block_post_s", "f8"),  # the same two inside a node
        ("domain_start_s", "f8"),
    ]
)

TURN = np.dtype([("giver", "i4"), ("taker", "i4")])  # roles between which replicas may change

SERVICE_STATE = np.dtype(  # one record per environment and service
    [
        ("asked", "i4"),  # 1: it has been asked for
        # its base gang
        ("was_ready", "i4"),  # 1: every role has had its least replicas since it began
        ("breached_s", "f8"),  # since when one has not, inf: all have
        ("stale_s", "f8"),  # since when a part has devices and a part has none, inf: it is not so
        # sums since the episode began, and as they stood when the last interval began
        ("arrived", "i8"),
        ("prompt_tokens", "i8"),
        ("first_tokens", "i8"),
        ("ttft_s", "f8"),
        ("finished", "i8"),
        ("output_tokens", "i8"),
        ("multi_token", "i8"),
        ("tpot_s", "f8"),
        ("slo_met", "i8"),
        ("then_arrived", "i8"),
        ("then_prompt_tokens", "i8"),
        ("then_first_tokens", "i8"),
        ("then_ttft_s", "f8"),
        ("then_finished", "i8"),
        ("then_output_tokens", "i8"),
        ("then_multi_token", "i8"),
        ("then_tpot_s", "f8"),
        ("then_slo_met", "i8"),
        # over the last interval
        ("rate_per_s", "f8"),  # requests that arrived
        ("prompt_mean", "f8"),  # their tokens; of the interval before where there was none
        ("output_mean", "f8"),  # of requests that finished
        ("ttft_mean_s", "f8"),
        ("tpot_mean_s", "f8"),
        ("slo_share", "f8"),
    ]
)

FLEET = np.dtype(  # one record per environment
    [
        ("tick_s", "f8"),  # when replicas are decided about next
        ("began_s", "f8"),  # when the interval began
        ("decided_s", "f8"),  # when the last round began in which there was a choice
        ("since_s", "f8"),  # from the one before that to it
        ("look_s", "f8"),  # when what replicas send is measured next, inf: none is on several nodes
        ("retry_s", "f8"),  # when a replica that has lost its devices can be placed again
        ("deciding", "i4"),  # 1: a decision about replicas is due
        ("changes", "i4"),  # in the round under way
        ("moving", "i4"),  # replicas that start or drain
        ("starts", "i8"),  # replicas that began to serve
        ("drains", "i8"),  # replicas that were told to end
        ("turns", "i8"),  # of these, into one of another role
        ("terminations", "i8"),  # services below their minimum that were ended
        ("evictions", "i8"),  # base gangs that were stale
        ("preempted", "i8"),  # replicas that lost their devices to another gang
        ("handed_back", "i8"),  # requests that a failing replica gave back
        ("exact", "i4"),  # 1: some replicas' every step is a moment: prefill, on several nodes
        ("moves", "i8"),  # KV caches that have set off
        ("moved_bytes", "f8"),  # of these
        ("arrived_bytes", "f8"),  # of those that have arrived
        ("lost_bytes", "f8"),  # of those that were given up on the way
        ("moving_s", "f8"),  # seconds that those took that have arrived, handover included
    ]
)

TRAFFIC = np.dtype(  # what a row of the cost tables sends over NICs
    [
        ("pattern", "i4"),  # of one token; -1: its ranks need no NIC
        ("quick_tokens", "i4"),  # tokens of a step up to which
        ("quick_scale", "f8"),  # it sends so many times the bytes
        ("token_s", "f8"),  # of a NIC for a token, whoever else uses it
    ]
)

SENDING = np.dtype(  # one record per environment and replica
    [
        ("since_s", "f8"),  # the last look at what it sends
        ("steps", "i4"),  # that it had done then
        ("tokens", "i8"),  # that it had computed then
        ("step_tokens", "f8"),  # of the mean step that it sends as
    ]
)

SCALER_RULES = np.dtype(numbers(Scaler))
