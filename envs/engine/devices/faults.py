"""Node failures and repairs: exponential times, one generator state per environment."""

from __future__ import annotations

import math

import numpy as np

from ..core.compile import kernel
from ..core.random import hash64
from ..gangs.lifecycle import fail_node, repair_node

_GAMMA = np.uint64(0x9E3779B97F4A7C15)  # splitmix64's increment, see :mod:`..random`
_SHIFT = np.uint64(11)


@kernel
def draw(env):
    """Return a float uniform in (0, 1) from the environment's generator."""
    env.random += _GAMMA
    return (float(np.int64(hash64(env.random) >> _SHIFT)) + 0.5) * 2.0**-53


@kernel
def plan_failure(w, env):
    """Draw when the next node fails: the least of as many exponential times as there are nodes."""
    env.next_failure_s = math.inf
    if w.config[0].failure_s > 0.0:
        gap_s = -math.log(draw(env)) * w.config[0].failure_s / len(w.specs)
        env.next_failure_s = env.now_s + gap_s


@kernel(inline=False)
def fail_some_node(w, e, env):
    """Let a node drawn at random fail, if it is up, and draw the next failure."""
    node = min(int(draw(env) * len(w.specs)), len(w.specs) - 1)
    repair_s = -math.log(draw(env)) * w.config[0].repair_s
    plan_failure(w, env)
    if w.repairs[e, node] == math.inf:
        fail_node(w, e, env, node, repair_s)
        env.next_repair_s = min(env.next_repair_s, env.now_s + repair_s)


@kernel(inline=False)
def repair_due_nodes(w, e, env):
    """Bring back the nodes whose repair is done, and note the next one."""
    env.next_repair_s = math.inf
    for node in range(len(w.specs)):
        if w.repairs[e, node] <= env.now_s:
            repair_node(w, e, env, node)
        env.next_repair_s = min(env.next_repair_s, w.repairs[e, node])
