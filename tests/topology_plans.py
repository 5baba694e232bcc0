"""One gang on nodes of which so many GPUs are free, and the plan a rule makes for it."""

import numpy as np
from views import make_view

from gpuyard import baselines

NODE, LEAF, POD, ZONE = range(4)
TREE = np.array([range(8), [0, 0, 1, 1, 2, 2, 3, 3], [0, 0, 0, 0, 1, 1, 1, 1], [0] * 8])


def view_with(free, gang, **options):
    """One pending gang on nodes of which only so many GPUs are free."""
    per_node = options.setdefault("gpus_per_node", 8)
    options.setdefault("nodes", len(free))
    running = [
        {"id": 100 + node, "on": node * per_node + np.arange(per_node - left)}
        for node, left in enumerate(free)
        if left < per_node
    ]
    return make_view([{"id": 1, **gang}], running, **options)


def nodes_of(plan, per_node=8):
    return (plan.gpus // per_node).tolist()


def plan_on(name, free, gang, options=None, **cluster):
    planner = baselines.make(name, **(options or {}))
    return planner.plan(view_with(free, gang, **cluster))
