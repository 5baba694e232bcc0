"""What if? Put the world back and try another action: a router that looks ahead.

    python examples/what_if.py

It tries every replica for a request, lets a rule take the next decisions, and keeps the best
first action. It knows the requests that come, so it is no router to deploy, but a bound that
others can be held against.
"""

from __future__ import annotations

import argparse

import gymnasium as gym
import numpy as np

import gpuyard  # noqa: F401  registers the environments
from gpuyard import baselines


def best_action(env: gym.Env, observation, rule: baselines.Policy, ahead: int) -> int:
    """Return the feasible action after which ``ahead`` decisions of a rule earn most."""
    world = env.unwrapped.get_state()
    earned = {}
    for action in np.flatnonzero(observation["action_mask"]).tolist():
        seen, total, _, _, _ = env.step(action)
        for _ in range(ahead):
            seen, reward, terminated, truncated, _ = env.step(rule.act(seen))
            total += reward
            if terminated or truncated:
                break
        earned[action] = total
        env.unwrapped.set_state(world)
    return max(earned, key=lambda action: earned[action])


def main(decisions: int, ahead: int) -> None:
    """Print what a rule earns with and without looking ahead."""
    env = gym.make("gpuyard/Routing-v0").unwrapped
    rule = baselines.make("routing/least-requests")
    for looks in (False, True):
        rule.reset(env.scenario, num_envs=1, seed=0)
        observation, _ = env.reset(seed=1)
        total = 0.0
        for _ in range(decisions):
            action = best_action(env, observation, rule, ahead) if looks else rule.act(observation)
            observation, reward, terminated, truncated, _ = env.step(action)
            total += float(reward)
            if terminated or truncated:
                break
        print(f"{'looking ahead' if looks else 'the rule itself'}: {total:.3f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--decisions", type=int, default=200)
    parser.add_argument("--ahead", type=int, default=20)
    options = parser.parse_args()
    main(options.decisions, options.ahead)
