"""A reward of your own: other weights of its terms, or a wrapper around the environment.

python examples/own_reward.py
"""

from __future__ import annotations

from dataclasses import replace

import gymnasium as gym

import gpuyard  # noqa: F401  registers the environments
from gpuyard.envs.reward import weights
from gpuyard.envs.scenario import load


class FewerPreemptions(gym.Wrapper):
    """Takes a tenth from the reward for each preemption since the last decision."""

    def reset(self, **kwargs):
        """Begin an episode."""
        observation, info = self.env.reset(**kwargs)
        self.before = info["preemptions"]
        return observation, info

    def step(self, action):
        """Take an action."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        reward -= 0.1 * (info["preemptions"] - self.before)
        self.before = info["preemptions"]
        return observation, reward, terminated, truncated, info


def total(env: gym.Env, decisions: int = 200) -> float:
    """Return the sum of rewards of the first feasible candidate, for a while."""
    observation, _ = env.reset(seed=0)
    result = 0.0
    for _ in range(decisions):
        observation, reward, terminated, truncated, _ = env.step(
            observation["action_mask"].argmax()
        )
        result += float(reward)
        if terminated or truncated:
            break
    return result


def main() -> None:
    """Print the same play under three rewards."""
    scenario = load("routing-default")
    print("as it is", total(gym.make("gpuyard/Routing-v0", scenario=scenario)))
    mixed = {"route": weights("route", {"slo": 1.0, "waiting": 0.2})}  # [reward] of a scenario file
    other = replace(scenario, reward=mixed)
    print("SLOs and waiting", total(gym.make("gpuyard/Routing-v0", scenario=other)))
    print("a wrapper", total(FewerPreemptions(gym.make("gpuyard/Routing-v0", scenario=scenario))))


if __name__ == "__main__":
    main()
