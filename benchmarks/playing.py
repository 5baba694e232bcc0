"""Beginning episodes of joint worlds that a study looks into as they go on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import gymnasium as gym

import gpuyard  # noqa: F401
from gpuyard.baselines import Policy, make
from gpuyard.envs.scenario import Scenario
from gpuyard.evaluation.report import FIRST_SEED


class Begun(NamedTuple):
    """Held-out episodes side by side, and the policy that plays them, attached."""

    env: Any
    player: Policy
    observation: Any
    info: dict[str, Any]


def begin(policy: str, world: Scenario, episodes: Sequence[int], seed: int = 0) -> Begun:
    """Begin episodes, numbered from 0 among those held out; ``seed`` is the policy's."""
    player = make(policy)
    player.reset(world, len(episodes), seed=seed)
    env: Any = gym.make_vec(
        "gpuyard/Cluster-v0", num_envs=len(episodes), scenario=world, autoreset_mode="Disabled"
    )
    player.attach(env)
    observation, info = env.reset(seed=[FIRST_SEED + number for number in episodes])
    return Begun(env, player, observation, info)
