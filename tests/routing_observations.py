"""Observations of routing made by hand, and routers that see them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from gpuyard import baselines
from gpuyard.envs.observation import Layout

LAYOUT = Layout({"route"})


def pool(replicas: int) -> SimpleNamespace:
    return SimpleNamespace(
        name="pool",
        decisions=frozenset({"route"}),
        layout=LAYOUT,
        router=SimpleNamespace(hold_s=0.0),
        replicas=[SimpleNamespace(kv_blocks=1000, deployment=SimpleNamespace(block_size=16))]
        * replicas,
    )


def observe(mask=None, hold=None, estimate=200.0, **columns) -> dict[str, np.ndarray]:
    """An observation of raw values: each column (R,) for one environment or (n, R).

    Args:
        mask: feasible replicas, (R,) or (n, R); all of them by default.
        hold: adds a candidate that holds the request, feasible or not.
    """
    columns = {name: np.atleast_2d(np.asarray(v, float)) for name, v in columns.items()}
    n, replicas = max((v.shape for v in columns.values()), default=(1, 4))
    size = replicas + (hold is not None)
    observation = {
        "cluster": np.zeros((n, len(LAYOUT.columns("cluster"))), np.float32),
        "candidates": np.zeros((n, size, len(LAYOUT.columns("candidates"))), np.float32),
        "queue": np.zeros((n, 2, len(LAYOUT.columns("queue"))), np.float32),
        "action_mask": np.zeros((n, size), np.int8),
    }
    observation["cluster"][:, LAYOUT.index("cluster", "kind_route")] = 1
    for at, column in enumerate(LAYOUT.columns("candidates")):
        raw = columns.pop(column.name, 0.0)
        value = raw if column.scale is None else raw / (raw + column.scale)
        observation["candidates"][:, :replicas, at] = value
    assert not columns, f"no such columns: {columns}"
    for at, column in enumerate(LAYOUT.columns("queue")):
        if column.name == "estimate":
            observation["queue"][:, 0, at] = estimate / (estimate + column.scale)
    observation["action_mask"][:, :replicas] = True if mask is None else mask
    if hold is not None:
        observation["action_mask"][:, -1] = hold
    return observation


def router(name: str, replicas: int, num_envs: int = 1, seed: int = 0, **options):
    policy = baselines.make(f"routing/{name}", **options)
    policy.reset(pool(replicas), num_envs, seed)
    return policy


def choice(name: str, observation: dict[str, np.ndarray], replicas: int, **options) -> int:
    return int(router(name, replicas, **options).act(observation)[0])
