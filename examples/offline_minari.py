"""Episodes as a Minari dataset, and a router learned from it alone: behaviour cloning of a rule.

    pip install "gpuyard[train,frames]" "minari[arrow]"
    python examples/offline_minari.py

A rule plays training seeds, and every step goes into a dataset that any offline learner reads. A
network learns which candidate the rule took and then plays held-out seeds beside the rule.
"""

from __future__ import annotations

import argparse
import os
import tempfile

import gymnasium as gym
import minari
import numpy as np
import torch
from minari.data_collector import EpisodeBuffer
from torch import nn

import gpuyard
from gpuyard import baselines

RULE = "routing/prefill-and-work"
DATASET = "gpuyard/routing-default/prefill-and-work-v0"
READ = ("cluster", "candidates", "action_mask")


def record(episodes: int) -> minari.MinariDataset:
    """Return a dataset, on the disk, of the rule's episodes of seeds 0, 1, ...

    Minari warns of what a dataset to be published should name too: author, address, code.
    """
    env = gym.make("gpuyard/Routing-v0")
    rule = baselines.make(RULE)
    return minari.create_dataset_from_buffers(
        DATASET,
        [play(env, rule, seed) for seed in range(episodes)],
        env=env,
        algorithm_name=RULE,
        description="Requests of gpuyard's scenario routing-default, routed by a rule.",
        requirements=["gpuyard"],
        data_format="arrow",
    )


def play(env: gym.Env, rule: baselines.Policy, seed: int) -> EpisodeBuffer:
    """Return an episode (what ``minari.DataCollector`` collects too, which needs jax for it)."""
    observation, _ = env.reset(seed=seed)
    rule.reset(env.unwrapped.scenario, num_envs=1, seed=seed)
    observations, steps, done = [observation], [], False
    while not done:
        action = int(rule.act(observation))
        observation, reward, terminated, truncated, _ = env.step(action)
        observations.append(observation)
        steps.append((action, reward, terminated, truncated))
        done = terminated or truncated
    actions, rewards, terminations, truncations = (
        list(column) for column in zip(*steps, strict=True)
    )
    together = {key: np.stack([seen[key] for seen in observations]) for key in observation}
    return EpisodeBuffer(
        seed=seed,
        observations=together,
        actions=actions,
        rewards=rewards,
        terminations=terminations,
        truncations=truncations,
    )


def decisions(dataset: minari.MinariDataset) -> list[torch.Tensor]:
    """Return what was seen, shapes (N, W), (N, C, F) and (N, C), and what was done, shape (N,).

    An episode has one observation more than actions: the last one, which nothing followed.
    """
    episodes = list(dataset.iterate_episodes())
    seen = [np.concatenate([e.observations[key][:-1] for e in episodes]) for key in READ]
    done = np.concatenate([e.actions for e in episodes])
    return [*(torch.as_tensor(part).float() for part in seen), torch.as_tensor(done)]


class Scores(nn.Module):
    """Scores each candidate from its own columns and those of the world.

    A column holds x / (x + scale); its log-odds are log(x / scale), so that sums of them are the
    products of which rules are made.
    """

    def __init__(self, world_columns: int, candidate_columns: int, width: int = 64) -> None:
        super().__init__()
        columns = 2 * candidate_columns + world_columns
        self.score = nn.Sequential(
            *(nn.Linear(columns, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()),
            nn.Linear(width, 1),
        )

    def forward(self, world, candidates, mask):
        """Return logits, shape (n, C), the lowest there are for what is not feasible."""
        odds = torch.logit(candidates, eps=2e-3) / 3
        around = world[:, None].expand(-1, candidates.shape[1], -1)
        logits = self.score(torch.cat([candidates, odds, around], -1)).squeeze(-1)
        return logits.masked_fill(mask == 0, torch.finfo(logits.dtype).min)


def clone(dataset: minari.MinariDataset, epochs: int) -> Scores:
    """Return a network that takes what the rule took, by maximum likelihood."""
    torch.manual_seed(0)
    world, candidates, mask, action = decisions(dataset)
    network = Scores(world.shape[-1], candidates.shape[-1])
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for epoch in range(epochs):
        right = 0
        for at in torch.randperm(len(action)).split(256):
            logits = network(world[at], candidates[at], mask[at])
            right += int((logits.argmax(-1) == action[at]).sum())
            loss = nn.functional.cross_entropy(logits, action[at])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
        print(f"epoch {epoch + 1}/{epochs}: takes the rule's choice in {right / len(action):.1%}")
    return network


class Cloned(baselines.ScorePolicy):
    """The network behind the interface of every baseline."""

    decides = frozenset({"route"})

    def __init__(self, network: Scores) -> None:
        self.network = network

    def score(self, observation):
        """Return a score for each candidate, shape (n, C)."""
        with torch.no_grad():
            read = [torch.as_tensor(observation[key]).float() for key in READ]
            return self.network(*read).double().numpy()


def main(episodes: int, epochs: int, seeds: int) -> None:
    """Record, learn, compare."""
    with tempfile.TemporaryDirectory() as folder:  # leave this out to keep it in ~/.minari
        os.environ["MINARI_DATASETS_PATH"] = folder
        record(episodes)
        dataset = minari.load_dataset(DATASET)
        print(f"{dataset.total_episodes} episodes, {dataset.total_steps} decisions")
        network = clone(dataset, epochs)
    players = {"cloned": Cloned(network), "rule": RULE, "random": "routing/random"}
    frame = gpuyard.evaluate(players, "routing-default", seeds=seeds, progress=False)
    print(frame.groupby("policy")[["reward", "ttft_mean_s", "slo_attainment"]].mean().round(3))
    print(gpuyard.compare(frame, "cloned", ["reward"]).round(2).to_string(index=False))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--episodes", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=32)
    options = parser.parse_args()
    main(options.episodes, options.epochs, options.seeds)
