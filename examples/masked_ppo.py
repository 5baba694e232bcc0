"""PPO with masked candidates on the native vector environment, from scratch, in one file.

    python examples/masked_ppo.py --steps 400000

A network scores every candidate of a decision from its own columns and from those of the world
as a whole, so it fits any number of replicas; infeasible candidates get no probability.
Learning is PPO as in Schulman et al. (arXiv 1707.06347) with generalised advantages (arXiv
1506.02438). What comes out is compared with two rules.
"""

from __future__ import annotations

import argparse

import gymnasium as gym
import numpy as np
import torch
from torch import nn

import gpuyard  # noqa: F401  registers the environments
from gpuyard import baselines
from gpuyard.envs.scenario import load

GAMMA, LAMBDA, CLIP, EPOCHS, MINIBATCH = 0.99, 0.95, 0.2, 3, 1024


class Agent(nn.Module):
    """Scores of candidates and the value of a state."""

    def __init__(self, world_columns: int, candidate_columns: int, width: int = 64) -> None:
        super().__init__()
        self.world = nn.Sequential(nn.Linear(world_columns, width), nn.ReLU())
        self.candidate = nn.Sequential(nn.Linear(candidate_columns, width), nn.ReLU())
        self.score = nn.Sequential(nn.Linear(3 * width, width), nn.ReLU(), nn.Linear(width, 1))
        self.value = nn.Sequential(nn.Linear(2 * width, width), nn.ReLU(), nn.Linear(width, 1))

    def forward(self, world, candidates, mask):
        """Return a distribution over candidates and the value; shapes (n, W), (n, C, F), (n, C)."""
        code = self.candidate(candidates)
        mean = (code * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
        context = torch.cat([self.world(world), mean], -1)
        spread = context[:, None].expand(-1, code.shape[1], -1)
        scores = self.score(torch.cat([code, spread], -1)).squeeze(-1)
        scores = scores.masked_fill(mask == 0, -1e9)
        return torch.distributions.Categorical(logits=scores), self.value(context).squeeze(-1)


def tensors(observation):
    """Return what the agent reads of an observation."""
    keys = ("cluster", "candidates", "action_mask")
    return [torch.as_tensor(observation[key], dtype=torch.float32) for key in keys]


class Learned(baselines.Policy):
    """The agent behind the interface of every baseline: it takes the most probable candidate."""

    decides = frozenset({"route"})

    def __init__(self, agent: Agent) -> None:
        self.agent = agent

    def act(self, observation):
        """Return an action for each environment."""
        with torch.no_grad():
            return self.agent(*tensors(observation))[0].logits.argmax(-1).numpy()


def collect(envs, agent, observation, n_steps):
    """Play ``n_steps`` decisions in every environment; return the batch and what is seen then."""
    rows = []
    for _ in range(n_steps):
        seen = tensors(observation)
        with torch.no_grad():
            choice, value = agent(*seen)
            action = choice.sample()
        observation, reward, terminated, truncated, _ = envs.step(action.numpy())
        done = torch.as_tensor(terminated | truncated, dtype=torch.float32)
        rows.append((*seen, action, choice.log_prob(action), value, torch.as_tensor(reward), done))
    return [torch.stack(column) for column in zip(*rows, strict=True)], observation


def advantages(rewards, values, dones, last_value):
    """Return generalised advantages, shape (T, n)."""
    result, running = torch.zeros_like(values), torch.zeros_like(last_value)
    for t in reversed(range(len(rewards))):
        following = last_value if t == len(rewards) - 1 else values[t + 1]
        delta = rewards[t] + GAMMA * following * (1 - dones[t]) - values[t]
        running = delta + GAMMA * LAMBDA * (1 - dones[t]) * running
        result[t] = running
    return result


def learn(agent, optimizer, batch, advantage):
    """Take PPO's steps on a batch."""
    world, candidates, mask, action, old, value, _, _ = (part.flatten(0, 1) for part in batch)
    target = advantage.flatten() + value
    normal = (advantage.flatten() - advantage.mean()) / (advantage.std() + 1e-8)
    for _ in range(EPOCHS):
        for at in torch.randperm(len(action)).split(MINIBATCH):
            choice, guess = agent(world[at], candidates[at], mask[at])
            ratio = (choice.log_prob(action[at]) - old[at]).exp()
            gain = torch.min(ratio * normal[at], ratio.clamp(1 - CLIP, 1 + CLIP) * normal[at])
            loss = 0.5 * (guess - target[at]).pow(2).mean() - gain.mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(agent.parameters(), 0.5)
            optimizer.step()


def main(steps: int, num_envs: int = 32, n_steps: int = 128, seed: int = 0) -> Agent:
    """Train, printing the mean reward of a decision, and return the agent."""
    torch.manual_seed(seed)
    envs = gym.make_vec("gpuyard/Routing-v0", num_envs=num_envs, autoreset_mode="SameStep")
    space = envs.single_observation_space
    agent = Agent(space["cluster"].shape[-1], space["candidates"].shape[-1])
    optimizer = torch.optim.Adam(agent.parameters(), lr=7e-4)
    observation, _ = envs.reset(seed=seed)
    updates = max(1, steps // (num_envs * n_steps))
    scale = 1.0
    for update in range(updates):
        optimizer.param_groups[0]["lr"] = 7e-4 * (1 - update / updates)
        batch, observation = collect(envs, agent, observation, n_steps)
        rewards = batch[6].float()
        scale = (
            max(1e-6, 0.9 * scale + 0.1 * float(rewards.std())) if update else float(rewards.std())
        )
        with torch.no_grad():
            last = agent(*tensors(observation))[1]
        learn(agent, optimizer, batch, advantages(rewards / scale, batch[5], batch[7], last))
        print(f"update {update + 1}/{updates}: reward {rewards.mean():.4f} a decision", flush=True)
    return agent


def compare(agent: Agent, seeds: int) -> None:
    """Print the agent beside two rules on held-out seeds."""
    from gpuyard.evaluation.rollout import rollout

    scenario, held_out = load("routing-default"), 1_000_000 + np.arange(seeds)
    players = {"learned": Learned(agent)}
    players |= {
        name: baselines.make(name) for name in ("routing/prefill-and-work", "routing/random")
    }
    for name, policy in players.items():
        metrics = rollout(name, policy, scenario, held_out).metrics
        reward, ttft_s = metrics["reward"].mean(), metrics["ttft_mean_s"].mean()
        print(f"{name:26s} reward {reward:9.2f}  TTFT {ttft_s:.3f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=400_000)
    parser.add_argument("--seeds", type=int, default=16)
    options = parser.parse_args()
    compare(main(options.steps), options.seeds)
