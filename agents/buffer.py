"""Advantages whose horizon is counted in requests, not in decisions.

Holding a request back adds a decision. With a discount per decision, the future would weigh less
and credit would reach less far the more often the agent holds; trained like this, an agent learned
to hold every request to the limit. So gamma and lambda apply only where the episode moves on to
another request. Without a hold action this is the usual estimator.
"""

from __future__ import annotations

import numpy as np
import torch
from sb3_contrib.common.maskable.buffers import MaskableDictRolloutBuffer

from gpuyard.envs.observation import index

PROGRESS = index("cluster", "progress")


class RequestRolloutBuffer(MaskableDictRolloutBuffer):
    """Rollout buffer with generalised advantage estimation (Schulman et al., 2016) per request."""

    def compute_returns_and_advantage(self, last_values: torch.Tensor, dones: np.ndarray) -> None:
        """Fill advantages and returns.

        Args:
            last_values: values of the states after the last step, shape (n_envs,) or (n_envs, 1).
            dones: whether the last step ended an episode, shape (n_envs,).
        """
        progress = self.observations["cluster"][:, :, PROGRESS]
        # The state after the last step is not in the buffer; most decisions do move on.
        moved = np.concatenate([progress[1:] != progress[:-1], np.ones((1, self.n_envs), bool)])
        discount = np.where(moved, self.gamma, 1.0)
        trace = np.where(moved, self.gae_lambda, 1.0)
        going_on = 1.0 - np.concatenate([self.episode_starts[1:], dones[None]]).astype(np.float32)
        following = np.concatenate([self.values[1:], last_values.cpu().numpy().reshape(1, -1)])
        error = self.rewards + discount * going_on * following - self.values
        advantage = np.zeros(self.n_envs)
        for step in reversed(range(self.buffer_size)):
            decay = discount[step] * trace[step] * going_on[step]
            advantage = error[step] + decay * advantage
            self.advantages[step] = advantage
        self.returns = self.advantages + self.values
