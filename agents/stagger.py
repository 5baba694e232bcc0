"""Worlds side by side, each at another moment of its episode.

Episodes have about the same number of decisions. Begun together, a batch of them holds only
beginnings, then only middles, then only ends, and a learner forgets each in turn.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gpuyard.baselines import Observation, Policy

from .buffer import PROGRESS


def by_chance(env: Any) -> Observation:
    """Play one episode at random to learn its length; in a second one, begin anew by turns.

    Args:
        env: a native vector environment in SAME_STEP autoreset mode, just reset.

    Returns:
        The observation in which the worlds are left.
    """
    rng = np.random.default_rng(0)

    def play() -> tuple[Observation, bool]:
        masks = env.action_masks()
        actions = (masks * rng.random(masks.shape)).argmax(axis=1)
        observation, _, terminated, truncated, _ = env.step(actions)
        return observation, bool(terminated[0] or truncated[0])

    length = 1
    while not play()[1]:
        length += 1
    turn = np.arange(env.num_envs) * length // env.num_envs
    for now in range(length):
        observation, _ = play()
        if (turn == now).any():
            observation, _ = env.reset(options={"reset_mask": turn == now})
    return observation


def by_teacher(env: Any, observation: Observation, teacher: Policy) -> Observation:
    """Let the teacher play until the first world ends; each other one begins anew on the way.

    So the worlds are left in states that it leads to; chance would leave joint worlds crowded.

    Args:
        env: a native vector environment in SAME_STEP autoreset mode, just reset.
        observation: its first.
        teacher: must have been reset for ``env``.

    Returns:
        The observation in which the worlds are left.
    """
    turn = np.arange(env.num_envs) / env.num_envs
    waits = turn > 0.0
    ended = False
    while not ended:
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
        teacher.restart(done | again)
        ended = bool(done[0])
    return observation
