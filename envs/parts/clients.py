"""Clients in the words of the engine's records, and back to results."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..engine.core.records import records
from ..engine.serving.clients import CLIENT
from ..scenario.clients import Clients
from .part import Table

COUNTED = ("arrived", "finished", "slo_met", "rejected", "expired", "service")
"""Of the table of clients, besides their class."""


def build_clients(clients: Clients) -> NDArray[np.void]:
    """Return CLIENT (C,)."""
    found = records(len(clients.class_of), CLIENT)
    for client, row in enumerate(clients.class_of):
        group = clients.classes[row]
        is_rejected = group.over_rate == "reject"
        found[client] = (row, group.weight, group.tokens_per_s, group.burst_tokens, is_rejected)
    return found


def table_of_clients(clients: NDArray[np.void], states: NDArray[np.void]) -> Table:
    """Return what became of the requests of each client: its class and :data:`COUNTED`, (C,)."""
    counted = {name: np.array(states[name]) for name in COUNTED}
    return {"class": np.array(clients["group"]), **counted}
