"""Warm start: the network learns to act like a heuristic before it learns to beat it.

The network acts, the teacher says what it would have done in that state, and the cross-entropy
between both is minimised (DAgger with the learner's own states: Ross, Gordon and Bagnell, AISTATS
2011). All environments of the batch step at once.

A planner's plan is no candidate. Its lesson is the gang that it starts: the candidates for that
gang on as many nodes and leafs, or if there is none, all of them, share the credit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from gpuyard.baselines import Observation, Policy
from gpuyard.baselines.planner import Planner
from gpuyard.envs.cluster_view import ClusterView, Plan
from gpuyard.envs.observation import read

from .network import CandidatePolicy

WINDOW = 50
"""Batches in the moving average of the agreement."""


def imitate(
    network: CandidatePolicy,
    teacher: Policy,
    env: Any,
    steps: int,
    seed: int = 0,
    learning_rate: float = 1e-3,
    progress: bool = True,
) -> float:
    """Train ``network`` to take the teacher's actions.

    Args:
        network: changed in place.
        teacher: any policy; its choices are read off its actions.
        env: a native vector environment in SAME_STEP autoreset mode.
        steps: decisions to imitate, over all environments.
        seed: of the environments and of the teacher.
        learning_rate: Adam's step size.
        progress: show a progress bar.

    Returns:
        The share of decisions in which both agreed at the end.
    """
    teacher.reset(env.unwrapped.scenario, env.num_envs, seed=seed)
    optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate)
    observation, _ = env.reset(seed=seed)
    agreement = 0.0
    bar = tqdm(range(steps // env.num_envs), "imitating", unit="batch", disable=not progress)
    for batch in bar:
        wanted = lessons(teacher, env, observation)
        tensors = {key: torch.as_tensor(value) for key, value in observation.items()}
        logits = network.scores(tensors).masked_fill(tensors["action_mask"] == 0, -1e8)
        taught = wanted.any(axis=1)
        if taught.any():
            right = torch.log_softmax(logits, dim=-1).masked_fill(~torch.as_tensor(wanted), -1e8)
            optimizer.zero_grad()
            (-right[torch.as_tensor(taught)].logsumexp(dim=-1)).mean().backward()
            optimizer.step()
        taken = logits.detach().argmax(dim=-1).numpy()
        if taught.any():
            agreed = wanted[np.arange(len(taken)), taken][taught].mean()
            agreement += (agreed - agreement) / min(batch + 1, WINDOW)
        bar.set_postfix(agreement=f"{agreement:.3f}", refresh=False)
        observation, _, terminated, truncated, _ = env.step(taken)
        teacher.restart(terminated | truncated)
    return float(agreement)


def lessons(teacher: Policy, env: Any, observation: Observation) -> NDArray[np.bool_]:
    """Return the candidates that the teacher would take, bool (n, C); none where it cannot say."""
    wanted = np.zeros(observation["action_mask"].shape, bool)
    if not isinstance(teacher, Planner):
        wanted[np.arange(len(wanted)), teacher.act(observation)] = True
        return wanted
    for i, row in enumerate(wanted):
        view = env.unwrapped.view(i)
        world = {key: observation[key][i] for key in ("candidates", "action_mask")}
        row[:] = rows_like(teacher.plan_for(i, view), view, world)
    return wanted


def rows_like(plan: Plan | None, view: ClusterView, observation: Observation) -> NDArray[np.bool_]:
    """Return the feasible candidates that come closest to a plan, bool (C,).

    Args:
        plan: what a planner would do; None: wait.
        view: the cluster that it planned on.
        observation: of this one environment.
    """
    feasible = observation["action_mask"] > 0

    def column(name: str) -> NDArray[np.float64]:
        return np.rint(read(observation, "candidates", name))

    if plan is None:
        return feasible & (column("is_wait") > 0)
    if plan.preempt or plan.gpus is None:
        return np.zeros_like(feasible)
    place = int(np.flatnonzero(view.pending["id"] == plan.gang)[0])
    rows = feasible & (column("is_place") > 0) & (column("position") == place)
    nodes = np.unique(np.asarray(plan.gpus) // view.cluster.gpus_per_node)
    leafs = np.unique(view.cluster.node_leaf[nodes])
    close = rows & (column("nodes") == len(nodes)) & (column("leafs") == len(leafs))
    return close if close.any() else rows
