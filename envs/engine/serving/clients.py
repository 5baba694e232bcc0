"""Clients: who sent which request, what each has been served, and whose turn it is at the router.

The router charges a client for a request when it sends it: its prompt and its estimated output, by
the weights of :mod:`.fair`, over the client's weight; when the request has finished the estimate is
put right. (VTC with length prediction: Sheng et al., OSDI 2024.) A client has requests waiting
while any of it is under decision or held back. Whoever comes without any is raised to the least
charged of those who have, or, where nobody has, to whom the router served last.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.compile import kernel
from ..core.records import records
from .fair import OUTPUT_WEIGHT, PROMPT_WEIGHT

CLIENT = np.dtype(  # one client's fixed properties
    [
        ("group", "i4"),  # class of clients
        ("weight", "f8"),  # its share of service is in proportion to this
        ("tokens_per_s", "f8"),  # rate of its token bucket, 0: none
        ("burst_tokens", "f8"),  # size of the bucket
        ("is_rejected", "i4"),  # 1: what exceeds it is refused, 0: it waits
    ],
    align=True,
)

CLIENT_STATE = np.dtype(  # one client in one environment
    [
        ("charged", "f8"),  # tokens, weighted
        ("waiting", "i4"),  # requests under decision or held back
        ("in_flight", "i4"),
        ("arrived", "i4"),
        ("finished", "i4"),
        ("slo_met", "i4"),
        ("rejected", "i4"),
        ("expired", "i4"),
        ("service", "f8"),  # of finished requests: tokens by the weights of fair.py
        ("level", "f8"),  # tokens in its bucket, below 0: promised to those who wait
        ("level_s", "f8"),  # when that was so
    ],
    align=True,
)


def allocate_clients(
    clients: NDArray[np.void], num_envs: int, num_replicas: int
) -> dict[str, NDArray[Any]]:
    """Return the arrays of clients by name, none if there are no clients."""
    if len(clients) == 0:
        return {}
    return {
        "client_states": records((num_envs, len(clients)), CLIENT_STATE),
        "fair_counters": np.zeros((num_envs, num_replicas, len(clients))),
    }


def forget_clients(arrays: dict[str, NDArray[Any]], clients: NDArray[np.void], e: int) -> None:
    """Begin the books of environment ``e`` anew, with full buckets."""
    if len(clients):
        arrays["client_states"][e] = 0
        arrays["client_states"]["level"][e] = clients["burst_tokens"]
        arrays["fair_counters"][e] = 0.0


@kernel
def has_clients(w):
    """Tell whether requests of this world have clients."""
    return len(w.clients) > 0


@kernel
def charge_of(request, output_tokens, weight):
    """Return what a request is charged with so many tokens of output."""
    return (PROMPT_WEIGHT * request.prompt_tokens + OUTPUT_WEIGHT * output_tokens) / weight


@kernel
def least_charged(w, e):
    """Return the least that a client with requests waiting has been charged, inf: nobody has."""
    least = math.inf
    for client in range(len(w.clients)):
        if w.client_states[e, client].waiting > 0:
            least = min(least, w.client_states[e, client].charged)
    return least


@kernel
def count_arrived(w, e, client, router):
    """Note that a request of a client has come to the router."""
    state = w.client_states[e, client]
    if state.waiting == 0:
        least = least_charged(w, e)
        if least == math.inf:
            last = router.last_client
            least = w.client_states[e, last].charged if last >= 0 else 0.0
        state.charged = max(state.charged, least)
    state.arrived += 1
    state.waiting += 1


@kernel
def count_sent(state, client, request, router):
    """Note that the router has sent a request to a replica."""
    state.waiting -= 1
    state.in_flight += 1
    state.charged += charge_of(request, request.estimate_tokens, client.weight)
    router.last_client = request.client


@kernel(inline=False)
def count_finished(state, client, request, met):
    """Note that a request has its last token, and whether it met its objectives."""
    state.in_flight -= 1
    state.finished += 1
    state.slo_met += met
    state.service += charge_of(request, request.output_tokens, 1.0)
    wrong_tokens = request.output_tokens - request.estimate_tokens
    state.charged += OUTPUT_WEIGHT * wrong_tokens / client.weight


@kernel
def count_unserved(state, client, request, is_refused):
    """Note that a request has ended unserved, refused or late; what it paid is given back."""
    if request.replica < 0:
        state.waiting -= 1
    else:
        state.in_flight -= 1
        state.charged -= charge_of(request, request.estimate_tokens, client.weight)
    state.rejected += is_refused
    state.expired += 1 - is_refused
