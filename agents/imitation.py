"""Warm start: the network learns to act like a heuristic before it learns to beat it.

First the teacher acts, then the network, while the teacher says what it would have done; the
cross-entropy between both is minimised (DAgger: Ross, Gordon and Bagnell, AISTATS 2011). All
environments of the batch step at once, each at another moment of its episode.

DAgger learns from all states seen so far. Here the latest of each kind of decision are kept
(:class:`Memory`), and a gradient step takes as many of each kind: where hundreds of requests are
routed for each replica that is decided about, a plain batch would hardly hold one of those.

What the teacher would take may be several candidates, which share the credit, or none; see
:meth:`.Policy.lessons`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from gpuyard.baselines import Observation, Policy

from . import sets
from .network import KEYS, KINDS, CandidatePolicy
from .stagger import by_teacher

WINDOW = 50
"""Batches in the moving average of the agreement."""
TAUGHT_BY_TEACHER = 0.2
"""Share of the steps in which the teacher acts."""
KEPT = 2048
"""States of each kind of decision in the memory."""
OF_A_KIND = 64
"""States of each kind that a gradient step is taken on."""


class Memory:
    """The latest states of each kind of decision, with what the teacher wanted there."""

    def __init__(self) -> None:
        self._rows: list[dict[str, NDArray[Any]]] = [{} for _ in KINDS]
        self._added = [0] * len(KINDS)

    def add(self, states: dict[str, NDArray[Any]]) -> None:
        """Keep states, arrays with a leading axis; the oldest of their kind make room."""
        kinds = states["cluster"][:, KINDS].argmax(axis=1)
        for kind, rows in enumerate(self._rows):
            of = np.flatnonzero(kinds == kind)
            for key, values in states.items():
                if of.size and key not in rows:
                    rows[key] = np.zeros((KEPT, *values.shape[1:]), values.dtype)
                if of.size:
                    rows[key][(self._added[kind] + np.arange(of.size)) % KEPT] = values[of]
            self._added[kind] += of.size

    def draw(self, rng: np.random.Generator, device: torch.device) -> dict[str, Tensor]:
        """Return states of each kind, as many of one as of another, on a device."""
        drawn = [
            {key: values[at] for key, values in rows.items()}
            for rows, added in zip(self._rows, self._added, strict=True)
            if added
            for at in [rng.integers(min(added, KEPT), size=OF_A_KIND)]
        ]
        return {
            key: torch.as_tensor(np.concatenate([rows[key] for rows in drawn]), device=device)
            for key in drawn[0]
        }


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
        learning_rate: Adam's step size, falling linearly to 0.
        progress: show a progress bar.

    Returns:
        The share of decisions in which both agreed at the end.

    Raises:
        ValueError: the teacher does not take the decisions of the environment.
    """
    teacher.reset(env.unwrapped.scenario, env.num_envs, seed=seed)
    optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate)
    memory, rng = Memory(), np.random.default_rng(seed)
    observation = by_teacher(env, env.reset(seed=seed)[0], teacher)
    agreement, batches = 0.0, steps // env.num_envs
    bar = tqdm(range(batches), "imitating", unit="batch", disable=not progress)
    for batch in bar:
        wanted = teacher.lessons(observation, env)
        taken = _most_probable(network, observation)
        taught = np.asarray(wanted.any(axis=1))
        if taught.any():
            agreed = wanted[np.arange(len(taken)), taken][taught].mean()
            agreement += (agreed - agreement) / min(batch + 1, WINDOW)
            if batch < TAUGHT_BY_TEACHER * batches:
                taken = np.where(taught, wanted.argmax(axis=1), taken)
            memory.add(_states(observation, wanted, taught))
            optimizer.param_groups[0]["lr"] = learning_rate * (1.0 - batch / batches)
            optimizer.zero_grad()
            _loss(network, memory.draw(rng, network.device)).backward()
            optimizer.step()
        bar.set_postfix(agreement=f"{agreement:.3f}", refresh=False)
        observation, _, terminated, truncated, _ = env.step(taken)
        teacher.restart(terminated | truncated)
    return float(agreement)


def _most_probable(network: CandidatePolicy, observation: Observation) -> NDArray[np.int64]:
    """Return the network's most probable feasible candidates, shape (n,)."""
    tensors = {
        key: torch.as_tensor(value, device=network.device) for key, value in observation.items()
    }
    with torch.no_grad():
        logits = network.scores(tensors).masked_fill(tensors["action_mask"] == 0, -1e8)
    return logits.argmax(dim=-1).cpu().numpy()


def _states(
    observation: Observation, wanted: NDArray[np.bool_], taught: NDArray[np.bool_]
) -> dict[str, NDArray[Any]]:
    """Return what is to be kept of the states in which there is a lesson, and the lessons."""
    whole = {key: torch.as_tensor(observation[key]) for key in sets.SETS}
    states = observation | {"sets": sets.summary(whole).numpy()}
    return {key: states[key][taught] for key in KEYS} | {"wanted": wanted[taught]}


def _loss(network: CandidatePolicy, states: dict[str, Tensor]) -> Tensor:
    """Return the mean cross-entropy between the network's choice and the teacher's."""
    logits = network.scores(states).masked_fill(states["action_mask"] == 0, -1e8)
    logs = torch.log_softmax(logits, dim=-1)
    return -logs.masked_fill(~states["wanted"], -1e8).logsumexp(dim=-1).mean()
