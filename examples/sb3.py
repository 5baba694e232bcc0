"""Stable-Baselines3: PPO and DQN with their own networks, MaskablePPO with ours.

    python examples/sb3.py --steps 20000

PPO and DQN know no masks, so they see a flat vector and an infeasible action is replaced and
counted by the environment. MaskablePPO takes the masks; a model that it trained becomes a policy
of ours, and it loads the model.zip of ours.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import gymnasium as gym
from gymnasium.wrappers import FlattenObservation
from sb3_contrib import MaskablePPO
from stable_baselines3 import DQN, PPO

import gpuyard  # noqa: F401  registers the environments
from gpuyard.agents.network import CandidatePolicy
from gpuyard.agents.policy import LearnedPolicy
from gpuyard.agents.sb3 import SB3VecEnv

ID = "gpuyard/Routing-v0"


def main(steps: int) -> None:
    """Train all three for a while."""
    single = FlattenObservation(gym.make(ID))
    PPO("MlpPolicy", single, n_steps=min(steps, 512), batch_size=64, device="cpu").learn(steps)
    print("PPO has learned on one environment, without masks")
    DQN("MlpPolicy", single, learning_starts=64, buffer_size=10_000, device="cpu").learn(steps)
    print("DQN has learned on one environment, without masks")

    envs = SB3VecEnv(gym.make_vec(ID, num_envs=16, autoreset_mode="SameStep"))
    model = MaskablePPO(CandidatePolicy, envs, n_steps=32, batch_size=512, device="cpu")
    model.learn(steps)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.zip"
        model.save(path)
        again = MaskablePPO.load(path)  # unpickles: only files of your own
        LearnedPolicy(model.policy).save(Path(folder) / "policy.safetensors")
        policy = LearnedPolicy.load(Path(folder) / "policy.safetensors")  # can run no code
    env = gym.make(ID)
    observation, _ = env.reset(seed=0)
    action, _ = again.predict(observation, action_masks=env.unwrapped.action_masks())
    policy.reset(env.unwrapped.scenario, num_envs=1)
    print(f"MaskablePPO takes candidate {action}; as a policy of ours {policy.act(observation)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=20_000)
    main(parser.parse_args().steps)
