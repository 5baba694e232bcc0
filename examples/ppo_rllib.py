"""RLlib: PPO with action masks, by a module of one's own on the new API stack.

    pip install gpuyard "ray[rllib]" torch
    python examples/ppo_rllib.py --steps 100000

RLlib makes its batch from single environments. The module reads the parts of the observation that
it wants and gives an infeasible candidate the lowest logit there is, so that it is never drawn.
What comes out plays held-out seeds beside two rules.
"""

from __future__ import annotations

import argparse

import gymnasium as gym
import numpy as np
import ray
import torch
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.apis.value_function_api import ValueFunctionAPI
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.core.rl_module.torch import TorchRLModule
from ray.tune.registry import register_env
from torch import nn

from gpuyard import baselines
from gpuyard.envs.scenario import load
from gpuyard.evaluation.rollout import rollout

READ = ("cluster", "candidates", "action_mask")


def routing(config) -> gym.Env:
    """Return an environment; the import registers it in every process of Ray."""
    import gpuyard  # noqa: F401

    return gym.make("gpuyard/Routing-v0")


def layers(inputs: int, width: int = 64) -> nn.Sequential:
    """Return a small network with one output."""
    return nn.Sequential(
        *(nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()),
        nn.Linear(width, 1),
    )


class Scores(TorchRLModule, ValueFunctionAPI):
    """Scores each candidate from its own columns and those of the world; values the world."""

    def setup(self) -> None:
        """Make both networks."""
        world, candidate = (self.observation_space[key].shape[-1] for key in READ[:2])
        self.score, self.value = layers(world + candidate), layers(world)

    def logits(self, observation):
        """Return logits, shape (n, C), of an observation with leading axis n."""
        world, candidates, mask = (observation[key] for key in READ)
        around = world[:, None].expand(-1, candidates.shape[1], -1)
        logits = self.score(torch.cat([candidates, around], -1)).squeeze(-1)
        return logits.masked_fill(mask == 0, torch.finfo(logits.dtype).min)

    def _forward(self, batch, **kwargs):
        return {Columns.ACTION_DIST_INPUTS: self.logits(batch[Columns.OBS])}

    def compute_values(self, batch, embeddings=None):
        """Return values, shape (n,)."""
        return self.value(batch[Columns.OBS]["cluster"]).squeeze(-1)


class Learned(baselines.Policy):
    """The module behind the interface of every baseline: it takes the most probable candidate."""

    decides = frozenset({"route"})

    def __init__(self, module: Scores) -> None:
        self.module = module

    def act(self, observation):
        """Return an action for each environment."""
        with torch.no_grad():
            seen = {key: torch.as_tensor(observation[key]) for key in READ}
            return self.module.logits(seen).argmax(-1).numpy()


def main(steps: int, num_envs: int = 8, batch: int = 4096) -> Scores:
    """Train in this process, printing invalid actions and rewards, and return the module."""
    ray.init(include_dashboard=False, log_to_driver=False)
    register_env("routing", routing)
    config = (
        PPOConfig()
        .environment("routing")
        .env_runners(num_env_runners=0, num_envs_per_env_runner=num_envs)
        .rl_module(rl_module_spec=RLModuleSpec(module_class=Scores))
        .training(
            train_batch_size_per_learner=batch, minibatch_size=min(batch, 1024), num_epochs=3,
            lr=7e-4, gamma=0.99, lambda_=0.95, use_kl_loss=False, vf_clip_param=float("inf"),
        )
        .debugging(seed=0)
    )  # fmt: skip
    algorithm = config.build_algo()
    for update in range(max(1, steps // batch)):
        played = algorithm.train()["env_runners"]
        reward = played.get("episode_return_mean", np.nan)  # nan until an episode ends
        print(f"update {update + 1}: return {reward:.1f}", flush=True)
    module = algorithm.get_module()
    algorithm.stop()
    ray.shutdown()
    return module


def compare(module: Scores, seeds: int) -> None:
    """Print the agent beside two rules on held-out seeds."""
    scenario, held_out = load("routing-default"), 1_000_000 + np.arange(seeds)
    players = {"learned": Learned(module)}
    players |= {
        name: baselines.make(name) for name in ("routing/prefill-and-work", "routing/random")
    }
    for name, policy in players.items():
        metrics = rollout(name, policy, scenario, held_out).metrics
        reward, invalid = metrics["reward"].mean(), int(metrics["invalid_actions"].sum())
        print(f"{name:26s} reward {reward:9.2f}, {invalid} invalid actions")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--seeds", type=int, default=16)
    options = parser.parse_args()
    compare(main(options.steps), options.seeds)
