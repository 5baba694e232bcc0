"""Warm start: the network learns to act like a heuristic before it learns to beat it.

The network acts, the teacher says what it would have done in that state, and the cross-entropy
between both is minimised (DAgger with the learner's own states: Ross, Gordon and Bagnell, AISTATS
2011). All environments of the batch step at once.

What the teacher would take may be several candidates, which share the credit, or none; see
:meth:`.Policy.lessons`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from gpuyard.baselines import Policy

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

    Raises:
        ValueError: the teacher does not take the decisions of the environment.
    """
    teacher.reset(env.unwrapped.scenario, env.num_envs, seed=seed)
    optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate)
    observation, _ = env.reset(seed=seed)
    agreement = 0.0
    bar = tqdm(range(steps // env.num_envs), "imitating", unit="batch", disable=not progress)
    for batch in bar:
        wanted = teacher.lessons(observation, env)
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
