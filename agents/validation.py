"""Keeps the weights that play best, for a training may end worse than it was on the way.

A joint world is unforgiving: one replica too few in a burst costs more than everything else, and a
policy that improved for a million decisions can unlearn to keep it in the next ten thousand. So the
policy plays a few episodes every so often, of seeds that are neither trained on nor reported, and
the weights with the highest mean reward are those that the run leaves behind.
"""

from __future__ import annotations

from typing import Any, cast

import gymnasium as gym
import numpy as np
from stable_baselines3.common.callbacks import BaseCallback

from gpuyard.baselines import Policy

from .checkpoint import Best
from .config import TrainConfig
from .network import CandidatePolicy
from .policy import LearnedPolicy

FIRST_SEED = 3_000_000
"""Of the episodes; training counts up from ``--seed``, what is reported from 1,000,000."""


class ValidationCallback(BaseCallback):
    """Plays between two updates and remembers the best weights.

    Args:
        config: says how often and how many episodes.
        best: filled here; checkpoints hold it, so it is given from outside.
    """

    def __init__(self, config: TrainConfig, best: Best):
        super().__init__()
        self.config, self.best = config, best

    def look(self) -> None:
        """Play the episodes; keep the weights if none had a higher reward."""
        network = cast(CandidatePolicy, self.model.policy)
        reward = mean_reward(LearnedPolicy(network), self.config)
        self.best.looked = self.num_timesteps
        if reward > self.best.reward:
            self.best.reward = reward
            self.best.weights = {key: v.clone() for key, v in network.state_dict().items()}
        self.logger.record("validation/reward", reward)
        self.logger.dump(self.num_timesteps)

    def _on_rollout_start(self) -> None:
        looked = self.best.looked
        if looked < 0 or self.num_timesteps - looked >= self.config.validate_every:
            self.look()

    def _on_step(self) -> bool:
        return True


def mean_reward(policy: Policy, config: TrainConfig) -> float:
    """Return the mean sum of rewards of ``config.validate_seeds`` episodes, one each."""
    count = config.validate_seeds
    env: Any = gym.make_vec(
        config.env, num_envs=count, scenario=config.scenario, autoreset_mode="SameStep"
    )
    policy.reset(env.unwrapped.scenario, count)
    policy.attach(env)
    observation, _ = env.reset(seed=FIRST_SEED)
    total, goes_on = np.zeros(count), np.ones(count, bool)
    while goes_on.any():
        observation, reward, terminated, truncated, _ = env.step(policy.act(observation))
        total += reward * goes_on
        done = terminated | truncated
        goes_on &= ~done
        policy.restart(done)
    env.close()
    return float(total.mean())
