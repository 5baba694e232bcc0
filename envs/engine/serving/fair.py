"""A replica's queue that serves clients evenly: the virtual token counter.

Each client has a counter at each replica, of tokens served there: :data:`PROMPT_WEIGHT` for each
one of a prompt when its request is first admitted, :data:`OUTPUT_WEIGHT` for each one of an output
when it is sampled, both over the client's weight. The earliest request of the client with the least
counter is admitted next; if it does not fit nobody is. A client who comes back has its counter
raised to the least of those who wait, or, where nobody does, to that of the client whose request
left the queue last, so that nobody saves up service while away.

Source: Sheng et al., "Fairness in serving large language models" (OSDI 2024), algorithm 2, its
weights, and its weighted form. Here a request counts as waiting from the first step on that has a
place in the batch and sees it; one that was preempted is not charged for its prompt again.
"""

from __future__ import annotations

import math

from ..core.compile import kernel

PROMPT_WEIGHT, OUTPUT_WEIGHT = 1.0, 2.0
UNKNOWN, WAITING, CHARGED = range(3)
"""How far a fair queue knows of a request: not yet, it is in line, its prompt was charged."""


@kernel(inline=False)
def note_arrivals(w, e, r, seen_s, replica):
    """Let those join the line who have come by ``seen_s``, with their clients' counters raised."""
    at = int(replica.head)
    while at >= 0:
        request = w.requests[e, at]
        if request.noted == UNKNOWN and request.queued_s <= seen_s:
            raise_counter(w, e, r, request.client, replica)
            request.noted = WAITING
        at = int(request.next)


@kernel
def raise_counter(w, e, r, client, replica):
    """Raise the counter of a client none of whose requests is in line."""
    least, at = math.inf, int(replica.head)
    while at >= 0:
        other = w.requests[e, at]
        if other.noted != UNKNOWN:
            if other.client == client:
                return
            least = min(least, w.fair_counters[e, r, other.client])
        at = int(other.next)
    if least == math.inf:
        least = w.fair_counters[e, r, replica.last_client] if replica.last_client >= 0 else 0.0
    w.fair_counters[e, r, client] = max(w.fair_counters[e, r, client], least)


@kernel
def charge_prompt(w, e, r, request, replica):
    """Charge a client for a prompt that leaves the queue for the first time."""
    replica.last_client = request.client
    if request.noted != CHARGED:
        tokens = PROMPT_WEIGHT * request.prompt_tokens
        w.fair_counters[e, r, request.client] += tokens / w.clients[request.client].weight
        request.noted = CHARGED


@kernel(inline=False)
def charge_run(w, e, r, decoding, replica):
    """Charge for the tokens of a run that has ended.

    The first ``decoding`` sequences got one in each step, unless prompts came first; those behind
    them whose prompt was computed in it got one.
    """
    each = 0 if replica.stalled == 1 else replica.steps
    for at in range(replica.running - replica.prefilling):
        client = w.requests[e, w.slots[e, r, at].request].client
        tokens = OUTPUT_WEIGHT * (each if at < decoding else 1)
        w.fair_counters[e, r, client] += tokens / w.clients[client].weight
