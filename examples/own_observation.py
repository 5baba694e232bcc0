"""A wrapper that hands out chosen columns, in their units, as one flat vector.

python examples/own_observation.py
"""

from __future__ import annotations

import gymnasium as gym
import numpy as np

import gpuyard  # noqa: F401  registers the environments

COLUMNS = ("route.wait_s", "route.prefill_s", "route.kv_usage", "route.prefix_match")


class Columns(gym.ObservationWrapper):
    """Columns of the candidates, shape (len(columns) * C,); 0 for what is not feasible."""

    def __init__(self, env: gym.Env, columns: tuple[str, ...] = COLUMNS) -> None:
        super().__init__(env)
        self.columns, self.layout = columns, env.unwrapped.layout
        size = len(columns) * env.action_space.n
        self.observation_space = gym.spaces.Box(0.0, np.inf, (size,), np.float32)

    def observation(self, observation):
        """Return the columns one after the other."""
        mask = observation["action_mask"] > 0
        chosen = [self.layout.read(observation, "candidates", name) for name in self.columns]
        return np.concatenate([np.where(mask, column, 0.0) for column in chosen]).astype(np.float32)


def main() -> None:
    """Print a first observation."""
    env = Columns(gym.make("gpuyard/Routing-v0"))
    observation, _ = env.reset(seed=0)
    assert env.observation_space.contains(observation)
    for name, values in zip(env.columns, observation.reshape(len(env.columns), -1), strict=True):
        print(f"{name:20s} {values.round(3)}")


if __name__ == "__main__":
    main()
