"""What is seen of clients: the columns of the block ``clients``, and numbers of the info."""

from __future__ import annotations

from ..core.compile import kernel
from ..serving.clients import least_charged
from .columns import OF_SERVICE, OF_SESSIONS, OF_STEPS, info_places, places, scaling, squash

QUEUE = places("queue", "clients")
INFO_CLIENTS = info_places("clients")
OFFSET, SLOPE = scaling("queue", "clients")
NUM_OF_CLASS, NUM_OF_SESSIONS, NUM_OF_STEPS = len(OF_SERVICE), len(OF_SESSIONS), len(OF_STEPS)


@kernel
def observe_client(w, e, row, request):
    """Fill the columns of one row of the queue."""
    state = w.client_states[e, request.client]
    out = w.queue[e, row, w.layout[0].queue_clients :]
    out[QUEUE.lead] = max(state.charged - least_charged(w, e), 0.0)
    out[QUEUE.client_waiting] = state.waiting
    out[QUEUE.client_in_flight] = state.in_flight
    squash(out, OFFSET, SLOPE)


@kernel
def jain_index(w, e):
    """Return the Jain index of what clients were served over their weights, of those who came.

    1: all alike; 1 / n: one of n has all. 1 before anybody was served. Source: Jain, Chiu and Hawe,
    DEC technical report 301, 1984.
    """
    count, total, squares = 0, 0.0, 0.0
    for client in range(len(w.clients)):
        state = w.client_states[e, client]
        if state.arrived > 0:
            share = state.service / w.clients[client].weight
            count, total, squares = count + 1, total + share, squares + share * share
    return total * total / (count * squares) if squares > 0.0 else 1.0


@kernel(inline=False)
def write_clients(w, e, now_s):
    """Fill the numbers of clients, and those of each class, which stand behind all of blocks."""
    row = w.numbers[e, w.layout[0].info_clients :]
    row[INFO_CLIENTS.jain_clients] = jain_index(w, e)
    behind = NUM_OF_SESSIONS if w.router[e].answers == 1 else 0
    behind += NUM_OF_STEPS if w.router[e].step_sessions > 0 else 0
    classes = len(w.objectives)
    of_classes = w.numbers[e, w.numbers.shape[1] - behind - NUM_OF_CLASS * classes :]
    for group in range(classes):
        met, ended = 0, 0
        for client in range(len(w.clients)):
            if w.clients[client].group == group:
                state = w.client_states[e, client]
                met += state.slo_met
                ended += state.finished + state.rejected + state.expired
        of_classes[NUM_OF_CLASS * group] = met / ended if ended > 0 else 0.0
        of_classes[NUM_OF_CLASS * group + 1] = met / now_s if now_s > 0.0 else 0.0
