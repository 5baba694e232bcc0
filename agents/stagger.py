"""Worlds side by side, each at another moment of its episode.

Episodes have about the same number of decisions. Begun together, a batch of them holds only
beginnings, then only middles, then only ends, and a learner forgets each in turn.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuyard.baselines import Observation, Policy

from .buffer import PROGRESS


def stagger(env: Any, observation: Observation, teacher: Policy | None = None) -> Observation:
    """Play until the first world ends; each other one begins anew on the way, by turns.

    Args:
        env: a native vector environment in SAME_STEP autoreset mode, just reset.
        observation: its first.
        teacher: plays, so that the worlds are left in states that it leads to; it must have been
            reset for ``env``. None: chance, as good as any where agents begin as badly.

    Returns:
        The observation in which the worlds are left.
    """
    turn = np.arange(env.num_envs) / env.num_envs
    waits = turn > 0.0
    rng = np.random.default_rng(0)
    while True:
        if teacher is None:
            wanted: NDArray[Any] = observation["action_mask"] * rng.random(
                observation["action_mask"].shape
            )
        else:
            wanted = teacher.lessons(observation, env)
            nothing = ~wanted.any(axis=1)
            wanted[nothing] = observation["action_mask"][nothing] > 0
        observation, _, terminated, truncated, _ = env.step(wanted.argmax(axis=1))
        done = terminated | truncated
        begins = waits & ((observation["cluster"][:, PROGRESS] >= turn) | done)
        waits &= ~begins
        again = begins & ~done
        if again.any():
            observation, _ = env.reset(options={"reset_mask": again})
        if teacher is not None:
            teacher.restart(done | again)
        if done[0]:
            return observation
