"""Advantages whose horizon is counted in requests or gangs, not in decisions.

Holding a request back, or leaving a gang in the queue, adds decisions. With a discount per
decision, the future would weigh less and credit would reach less far the more often the agent
holds; trained like this, a router learned to hold every request to the limit. So gamma and lambda
apply once for each unit that the observation's ``progress`` moves on: a request decided, a gang
finished. Both happen a fixed number of times in an episode, whatever the agent does, so that
neither waiting nor many starts at one moment make the future cheaper. A decision after which
several gangs finish discounts as often; discounting it once made waiting, which meets every finish
on its own, look cheap, and agents waited for ever. Where every decision moves on by one, this is
the usual estimator.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sb3_contrib.common.maskable.buffers import MaskableDictRolloutBuffer

from gpuyard.envs.observation import Layout

from .network import KINDS

PROGRESS = Layout(()).index("cluster", "progress")  # common columns come first in every layout


class ProgressRolloutBuffer(MaskableDictRolloutBuffer):
    """Rollout buffer with generalised advantage estimation (Schulman et al., 2016) by progress.

    Attributes:
        of_a_kind: decisions of each kind that a gradient step is taken on at most; 0: no limit. In
            joint worlds hundreds of requests are routed for each replica that is decided about.
            With a limit each kind's advantages are scaled on their own.
    """

    of_a_kind = 0

    def compute_returns_and_advantage(self, last_values: torch.Tensor, dones: np.ndarray) -> None:
        """Fill advantages and returns.

        Args:
            last_values: values of the states after the last step, shape (n_envs,) or (n_envs, 1).
            dones: whether the last step ended an episode, shape (n_envs,).
        """
        progress = self.observations["cluster"][:, :, PROGRESS]
        # The state after the last step is not in the buffer; most decisions do move on.
        moved = np.concatenate([units(progress), np.ones((1, self.n_envs))])
        discount, trace = self.gamma**moved, self.gae_lambda**moved
        going_on = 1.0 - np.concatenate([self.episode_starts[1:], dones[None]]).astype(np.float32)
        following = np.concatenate([self.values[1:], last_values.cpu().numpy().reshape(1, -1)])
        error = self.rewards + discount * going_on * following - self.values
        advantage = np.zeros(self.n_envs)
        for step in reversed(range(self.buffer_size)):
            decay = discount[step] * trace[step] * going_on[step]
            advantage = error[step] + decay * advantage
            self.advantages[step] = advantage
        self.returns = self.advantages + self.values
        if self.of_a_kind:
            self._scale_by_kind()

    def _scale_by_kind(self) -> None:
        """Give the advantages of each kind of decision mean 0 and deviation 1.

        What a replica more is worth and what a request sent elsewhere is worth differ by orders of
        magnitude; scaled together, the decisions of one kind would hardly move the network.
        """
        kinds = self.observations["cluster"][:, :, KINDS].argmax(axis=2)
        for kind in range(len(KINDS)):
            its = self.advantages[kinds == kind]
            if its.size > 1:
                self.advantages[kinds == kind] = (its - its.mean()) / (its.std() + 1e-8)

    def _get_samples(self, batch_inds: np.ndarray, env: Any = None) -> Any:
        """Return the decisions of a batch, in random order, that a gradient step is taken on."""
        if self.of_a_kind:
            of = self.observations["cluster"][batch_inds][:, KINDS].argmax(axis=1)
            kept = [np.flatnonzero(of == kind)[: self.of_a_kind] for kind in range(len(KINDS))]
            batch_inds = batch_inds[np.concatenate(kept)]
        return super()._get_samples(batch_inds, env)


def units(progress: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return by how many units each environment moves on at each step, shape (steps - 1, n_envs).

    A unit is the smallest move there is; the start of an episode is none.
    """
    change = np.maximum(np.diff(progress.astype(np.float64), axis=0), 0.0)
    moving = change > 1e-9
    return np.rint(change / change[moving].min()) if moving.any() else change
