"""TorchRL: PPO with masks on the native vector environment.

    pip install gpuyard torchrl
    python examples/ppo_torchrl.py --steps 200000

``GymWrapper`` takes the batch of worlds as it is; ``action_mask`` goes into the distribution, so
that an infeasible candidate is never drawn. A network scores each candidate from its own columns
and those of the world. What comes out plays held-out seeds beside two rules.
"""

from __future__ import annotations

import argparse

import gymnasium as gym
import numpy as np
import torch
from tensordict.nn import TensorDictModule
from torch import nn
from torchrl.collectors import Collector
from torchrl.envs import GymWrapper
from torchrl.modules import MaskedCategorical, ProbabilisticActor, ValueOperator
from torchrl.objectives import ClipPPOLoss
from torchrl.objectives.value import GAE

import gpuyard  # noqa: F401  registers the environments
from gpuyard import baselines
from gpuyard.envs.scenario import load
from gpuyard.evaluation.rollout import rollout

READ = ("cluster", "candidates", "action_mask")


def layers(inputs: int, width: int = 64) -> nn.Sequential:
    """Return a small network with one output."""
    return nn.Sequential(
        *(nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()),
        nn.Linear(width, 1),
    )


class Scores(nn.Module):
    """Scores candidates; shapes (..., W) and (..., C, F) give logits (..., C) and a bool mask."""

    def __init__(self, world_columns: int, candidate_columns: int) -> None:
        super().__init__()
        self.score = layers(world_columns + candidate_columns)

    def forward(self, world, candidates, mask):
        """Return logits and which of them may be drawn."""
        around = world.unsqueeze(-2).expand(*candidates.shape[:-1], -1)
        return self.score(torch.cat([candidates, around], -1)).squeeze(-1), mask > 0


class Learned(baselines.Policy):
    """The network behind the interface of every baseline: it takes the most probable candidate."""

    decides = frozenset({"route"})

    def __init__(self, scores: Scores) -> None:
        self.scores = scores

    def act(self, observation):
        """Return an action for each environment."""
        with torch.no_grad():
            logits, mask = self.scores(*(torch.as_tensor(observation[key]) for key in READ))
        return logits.masked_fill(~mask, -torch.inf).argmax(-1).numpy()


def main(steps: int, num_envs: int = 32, n_steps: int = 128) -> Scores:
    """Train, printing the mean reward of a decision, and return the network of the actor."""
    torch.manual_seed(0)
    worlds = gym.make_vec("gpuyard/Routing-v0", num_envs=num_envs, autoreset_mode="SameStep")
    env = GymWrapper(worlds, categorical_action_encoding=True)
    env.set_seed(0)
    space = worlds.single_observation_space
    world_columns, candidate_columns = (space[key].shape[-1] for key in READ[:2])
    scores = Scores(world_columns, candidate_columns)
    actor = ProbabilisticActor(
        TensorDictModule(scores, in_keys=list(READ), out_keys=["logits", "mask"]),
        in_keys=["logits", "mask"],
        distribution_class=MaskedCategorical,
        return_log_prob=True,
    )
    critic = ValueOperator(layers(world_columns), in_keys=["cluster"])
    loss_of = ClipPPOLoss(actor, critic, entropy_coeff=0.0, normalize_advantage=True)
    advantage = GAE(gamma=0.99, lmbda=0.95, value_network=critic)
    optimizer = torch.optim.Adam(loss_of.parameters(), lr=7e-4)
    frames = num_envs * n_steps
    updates = max(1, steps // frames)
    batches = Collector(
        env,
        actor,
        frames_per_batch=frames,
        total_frames=updates * frames,
        auto_register_policy_transforms=True,
    )
    for update, batch in enumerate(batches):
        for _ in range(3):
            advantage(batch)
            flat = batch.reshape(-1)
            for at in torch.randperm(frames).split(1024):
                losses = loss_of(flat[at])
                loss = losses["loss_objective"] + losses["loss_critic"]
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(loss_of.parameters(), 0.5)
                optimizer.step()
        reward = batch["next", "reward"].mean()
        print(f"update {update + 1}/{updates}: reward {reward:.4f} a decision", flush=True)
    batches.shutdown()
    return scores


def compare(scores: Scores, seeds: int) -> None:
    """Print the agent beside two rules on held-out seeds."""
    scenario, held_out = load("routing-default"), 1_000_000 + np.arange(seeds)
    players = {"learned": Learned(scores)}
    players |= {
        name: baselines.make(name) for name in ("routing/prefill-and-work", "routing/random")
    }
    for name, policy in players.items():
        reward = rollout(name, policy, scenario, held_out).metrics["reward"].mean()
        print(f"{name:26s} reward {reward:9.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=200_000)
    parser.add_argument("--seeds", type=int, default=16)
    options = parser.parse_args()
    compare(main(options.steps), options.seeds)
