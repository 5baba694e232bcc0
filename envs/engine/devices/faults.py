"""Node failures and repairs: exponential times, one generator state per environment."""

from __future__ import annotations

import math

from ..core.compile import kernel
from ..core.random import GAMMA, hash64, unit_float
from .nodes import bring_node_up

HOUR_S = 3600.0


@kernel
def draw(w, e):
    """Return a float uniform in (0, 1) from the environment's generator."""
    devices = w.devices[e]
    devices.random += GAMMA
    return unit_float(hash64(devices.random))


@kernel
def plan_failure(w, e):
    """Draw when the next node fails: the least of as many exponential times as there are nodes."""
    devices = w.devices[e]
    devices.next_failure_s = math.inf
    mtbf_s = w.fault_rules[0].node_mtbf_h * HOUR_S
    if mtbf_s > 0.0:
        gap_s = -math.log(draw(w, e)) * mtbf_s / len(w.node_specs)
        devices.next_failure_s = w.clock[e].now_s + gap_s


@kernel
def draw_failure(w, e):
    """Draw which node fails now, for how long, and when the next failure comes.

    Returns:
        The node, -1 if it is down already, and the seconds until it is repaired.
    """
    node = min(int(draw(w, e) * len(w.node_specs)), len(w.node_specs) - 1)
    mean_s = w.fault_rules[0].repair_h * HOUR_S
    repair_s = -math.log(draw(w, e)) * mean_s
    plan_failure(w, e)
    return node if w.repairs[e, node] == math.inf else -1, repair_s


@kernel(inline=False)
def repair_due_nodes(w, e):
    """Bring back the nodes whose repair is done, and note the next one."""
    devices = w.devices[e]
    devices.next_repair_s = math.inf
    for node in range(len(w.node_specs)):
        if w.repairs[e, node] <= w.clock[e].now_s:
            bring_node_up(w, e, node)
        devices.next_repair_s = min(devices.next_repair_s, w.repairs[e, node])
