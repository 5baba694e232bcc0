"""Room for the network's part of the state, and its empty state."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.compile import kernel
from ..core.records import records
from .once import clear
from .records import LEVELS, LINK, NETWORK, ONCE, PAIR, SENDER, STEP, USAGE

NEIGHBOURS = 64  # senders that slow one sender, on average at most; more are ignored


def switch_ports(gpu_switch: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return each GPU's place among those of its leaf switch, int32 (D,); 0 where none is."""
    ports = np.zeros(len(gpu_switch), np.int32)
    order = np.argsort(gpu_switch, kind="stable")
    _, first = np.unique(gpu_switch[order], return_index=True)
    ports[order] = np.arange(len(order)) - np.repeat(first, np.diff([*first, len(order)]))
    ports[gpu_switch < 0] = 0
    return ports


def usage_room(num_gpus: int, fabric: Any, patterns: NDArray[Any], phases: NDArray[Any]) -> int:
    """Return how many usage entries an environment needs at most, with room to collect garbage in.

    A flow uses two node links and, for each part hashed on its own, ``hops`` links between leaf
    switches at most. All GPUs are taken to run the pattern with the most flows per GPU.

    Args:
        num_gpus: D.
        fabric: FABRIC record.
        patterns: PATTERN (K,).
        phases: PHASE (P,).
    """
    per_flow = 2 + int(fabric["queue_pairs"]) * int(fabric["hops"])
    most = max(
        (int(pattern["num_phases"]) for pattern in patterns if pattern["ranks"] > 1), default=0
    )
    return max(1, math.ceil(1.5 * per_flow * most * num_gpus))


def step_room(num_gpus: int, patterns: NDArray[Any]) -> int:
    """Return how many steps an environment needs at most, with room to collect garbage in."""
    densest = max((pattern["num_phases"] / pattern["ranks"] for pattern in patterns), default=0.0)
    largest = max((int(pattern["num_phases"]) for pattern in patterns), default=0)
    return max(1, math.ceil(1.5 * densest * num_gpus) + largest)


def allocate(
    num_envs: int,
    num_senders: int,
    capacity: NDArray[np.float64],
    gpu_switch: NDArray[np.int32],
    num_switches: int,
    fabric: Any,
    patterns: NDArray[Any],
    phases: NDArray[Any],
    once: int = 0,
    once_gpus: int = 0,
) -> dict[str, NDArray[Any]]:
    """Return the network's arrays by name; call :func:`reset` on each.

    Args:
        num_envs: E.
        num_senders: J, periodic ones.
        capacity: float64 (L + ports,).
        gpu_switch: int32 (D,).
        num_switches: S.
        fabric: FABRIC record.
        patterns: PATTERN (K,).
        phases: PHASE (P,).
        once: T, one-shot senders at once.
        once_gpus: at one end of such a sender at most.
    """
    e, j, links = num_envs, num_senders + once, len(capacity)
    gpus = int((gpu_switch >= 0).sum())
    several = [int(pattern["ranks"]) for pattern in patterns if pattern["num_phases"] > 0]
    at_once = min(num_senders, gpus // max(2, min(several))) if several else 0
    pairs = max(1, min(at_once * (at_once - 1), NEIGHBOURS * at_once))
    most_links = 2 + once_gpus * (2 + int(fabric["queue_pairs"]) * int(fabric["hops"]))
    usages = usage_room(gpus, fabric, patterns, phases) + once * most_links
    steps = step_room(gpus, patterns) + once
    network = records(e, NETWORK)
    network["most_links"] = most_links
    return {
        "network": network,
        "senders": records((e, j), SENDER),
        "once": records((e, once), ONCE),
        "usages": records((e, usages), USAGE),
        "link_head": np.full((e, links), -1, np.int32),
        "once_head": np.full((e, links if once else 0), -1, np.int32),
        "link_rate": np.zeros((e, links)),
        "heap": np.zeros((e, j), np.int32),
        "steps": records((e, steps), STEP),
        "levels": np.zeros((e, steps if once else 0, LEVELS), np.int32),
        "pairs": records((e, pairs), PAIR),
        "links": records((e, links), LINK),
        "uplink_users": np.zeros((e, num_switches, int(fabric["uplinks"])), np.int32),
        "uplink_flows": np.zeros((e, num_switches, int(fabric["uplinks"])), np.int32),
        "way": np.zeros((e, int(fabric["hops"])), np.int32),
        "work": np.zeros((e, j), np.int32),
        "solved": np.zeros((e, j), np.int32),
        "fill_keys": np.zeros((e, links + j)),
        "fill_items": np.zeros((e, links + j), np.int32),
    }


@kernel(inline=False)
def reset(w, e):
    """Empty the network: no sender runs."""
    net = w.network[e]
    net.events = 0
    net.usages = 0
    net.steps = 0
    net.pairs = 0
    net.free_pair = -1
    net.touched = 0
    net.mark = 0
    for link in range(len(w.capacity)):
        w.link_head[e, link] = -1
        w.link_rate[e, link] = 0.0
        record = w.links[e, link]
        record.demand, record.mark = 0.0, 0
        record.flows, record.held, record.other, record.used = 0.0, 0.0, 0.0, 0.0
    for j in range(w.senders.shape[1]):
        w.senders[e, j].heap_at = -1
        w.senders[e, j].mark = 0
        w.senders[e, j].seen = 0
        w.senders[e, j].first_pair = -1
    for step in range(w.steps.shape[1]):
        w.steps[e, step].mark = 0
    for link in range(w.once_head.shape[1]):
        w.once_head[e, link] = -1
    clear(w, e, net)
    for switch in range(w.uplink_users.shape[1]):
        for uplink in range(w.uplink_users.shape[2]):
            w.uplink_users[e, switch, uplink] = 0
            w.uplink_flows[e, switch, uplink] = 0
