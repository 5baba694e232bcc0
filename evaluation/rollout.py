"""Run a policy on held-out seeds and measure each episode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from gpuyard.baselines import Policy

from .metrics import latency_metrics, request_latencies

if TYPE_CHECKING:
    from gpuyard.envs.scenario import Scenario


@dataclass(frozen=True)
class Rollout:
    """The episodes of one policy on one scenario.

    Attributes:
        policy: the policy's name.
        scenario: the scenario's name.
        seeds: int64 (n,), one episode each.
        metrics: name to float64 (n,).
        ttft_s: float64, TTFT of every finished request of all episodes, in order of seeds.
    """

    policy: str
    scenario: str
    seeds: NDArray[np.int64]
    metrics: dict[str, NDArray[np.float64]]
    ttft_s: NDArray[np.float64]


def rollout(
    name: str,
    policy: Policy,
    scenario: Scenario,
    seeds: NDArray[np.int64],
    env_id: str = "gpuyard/Routing-v0",
    num_envs: int = 16,
) -> Rollout:
    """Run one episode per seed, ``num_envs`` at a time.

    A finished environment takes the next seed at once. The policy's own randomness is seeded
    too, so that the result depends on nothing but the arguments.
    """
    num_envs = min(num_envs, len(seeds))
    env: Any = gym.make_vec(env_id, num_envs=num_envs, scenario=scenario, autoreset_mode="Disabled")
    policy.reset(scenario, num_envs, seed=0)
    episodes: list[dict[str, float]] = [{} for _ in seeds]
    ttft_s: list[NDArray[np.float64]] = [np.empty(0)] * len(seeds)

    episode = np.arange(num_envs)  # which episode each environment plays
    following = num_envs  # the next one to hand out
    total = np.zeros(num_envs)
    observation, _ = env.reset(seed=[int(seed) for seed in seeds[:num_envs]])
    while (episode < len(seeds)).any():
        observation, reward, terminated, truncated, info = env.step(policy.act(observation))
        total += reward
        done = terminated | truncated
        if not done.any():
            continue
        for i in np.flatnonzero(done).tolist():
            if episode[i] < len(seeds):
                episodes[episode[i]], ttft_s[episode[i]] = _measure(env, info, i, total[i])
            episode[i], following = following, following + 1
            total[i] = 0.0
        policy.restart(done)
        # An environment without a seed left replays the last one, unmeasured.
        again = [int(seeds[min(e, len(seeds) - 1)]) for e in episode.tolist()]
        observation, _ = env.reset(seed=again, options={"reset_mask": done})
    env.close()
    names = episodes[0]
    columns = {key: np.array([e.get(key, np.nan) for e in episodes]) for key in names}
    return Rollout(name, scenario.name, np.asarray(seeds), columns, np.concatenate(ttft_s))


def _measure(
    env: Any, info: dict[str, NDArray], i: int, reward: float
) -> tuple[dict[str, float], NDArray[np.float64]]:
    metrics = {"reward": float(reward)}
    metrics |= {k: float(v[i]) for k, v in info.items() if not k.startswith("_")}
    latencies = request_latencies(env.results(i))
    return metrics | latency_metrics(latencies), latencies["ttft"]
