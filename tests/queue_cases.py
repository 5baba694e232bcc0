"""Small clusters with queues, as the documentation and tests of real schedulers describe them."""

from __future__ import annotations

from typing import Any

import numpy as np
from views import PLACING, make_view

from gpuyard import baselines


def settle(
    name: str,
    nodes: int,
    gpus: int,
    queues: list[dict],
    running: list[dict],
    pending: list[dict],
    options: dict[str, Any] | None = None,
    **view_options: Any,
) -> tuple[list[int], list[int]]:
    """Ask a planner until it waits, with its plans carried out; return who started and stopped.

    Args:
        name: of a baseline.
        nodes: of the cluster.
        gpus: of a node.
        queues: see ``views.make_view``.
        running: gangs with ``id``, ``tenant`` and ``on``: {node: GPUs}; the later in the list, the
            later they started.
        pending: gangs with ``id``, ``tenant`` and ``gpus``; the later, the younger.
        options: of the baseline.
        view_options: of the view, ``preemption`` is on by default.
    """
    policy = baselines.make(name, **(options or {}))
    policy.reset(PLACING, 1, 0)
    active = [
        {"start_s": float(at), "arrival_s": float(at), **gang} for at, gang in enumerate(running)
    ]
    waiting = [{"arrival_s": 100.0 + at, **gang} for at, gang in enumerate(pending)]
    free = {node: list(range(node * gpus, node * gpus + gpus)) for node in range(nodes)}
    for gang in active:
        gang["on"] = [free[node].pop(0) for node, n in gang["on"].items() for _ in range(n)]
        gang["gpus"] = len(gang["on"])
    started, stopped = [], []
    while True:
        view = make_view(
            sorted(waiting, key=lambda gang: gang["arrival_s"]),
            active,
            queues=queues,
            nodes=nodes,
            gpus_per_node=gpus,
            **{"now_s": 1000.0, "preemption": True, **view_options},
        )
        plan = policy.plan_for(0, view)
        if plan is None:
            return started, stopped
        for gang in [gang for gang in active if gang["id"] in plan.preempt]:
            stopped.append(gang["id"])
            active.remove(gang)
            kept = {k: v for k, v in gang.items() if k not in ("on", "start_s")}
            waiting.append({**kept, "blocked": 1})
        (gang,) = [gang for gang in waiting if gang["id"] == plan.gang]
        waiting.remove(gang)
        assert set(view.gpu_job[plan.gpus].tolist()) <= {-1, *plan.preempt}
        started.append(gang["id"])
        active.append(
            {**gang, "on": np.asarray(plan.gpus).tolist(), "start_s": 1000.0} | {"blocked": 1}
        )
