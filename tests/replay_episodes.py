"""Small episodes, played at random and recorded, beside what was seen at every decision."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import cluster_worlds
import gymnasium as gym
import numpy as np
import placement_worlds

import gpuyard  # noqa: F401
from gpuyard.baselines import Policy
from gpuyard.envs.scenario import Scenario, from_dict
from gpuyard.evaluation.replay.episode import Episode
from gpuyard.evaluation.replay.recorder import Recorder
from gpuyard.ids import id_for

FAULTS = {"node_mtbf_h": 0.02, "repair_h": 0.005}  # a failure every 12 s among six nodes
PREEMPTION = {"preemption": True, "preempt_s": 2.0}


def _requests() -> Scenario:
    """Return three replicas of two kinds, small enough to queue and to preempt."""
    return from_dict({**_asked(80), "router": {"hold_s": 0.1}}, "ask")


def _moves() -> Scenario:
    """Return the same replicas, among which running requests move."""
    return from_dict({**_asked(40), "migration": {"interval_s": 0.5}}, "moves")


def _asked(num_requests: int) -> dict[str, Any]:
    kinds = [{"gpu": "A100-80", "count": 2}, {"gpu": "H100-SXM", "tp": 2}]
    replicas = [{"model": "Llama-3-8B", "max_num_seqs": 4, "kv_blocks": 150, **k} for k in kinds]
    workload = {"preset": "chat", "rate_per_s": 4.0, "max_tokens": 2048}
    return {"replicas": replicas, "workload": {**workload, "num_requests": num_requests}}


WORLDS = {
    "requests": _requests,
    "moves": _moves,
    "gangs": lambda: placement_worlds.small(
        "gangs", faults={"node_mtbf_h": 30.0, "repair_h": 1.0}, scheduler=PREEMPTION
    ),
    "services": lambda: cluster_worlds.small(
        name="services", faults=FAULTS, scheduler=PREEMPTION, router={"hold_s": 0.1}
    ),
    "apart": lambda: cluster_worlds.small(
        cluster_worlds.apart("split", termination_delay_s=20.0, role_change_s=1.0),
        name="apart",
        faults={"node_mtbf_h": 0.2, "repair_h": 0.005},
    ),
}
"""One for each set of parts that a scenario may have."""


class Chance(Policy):
    """Takes feasible candidates at random; of rows that preempt only now and then."""

    def reset(self, scenario: Scenario, num_envs: int, seed: int = 0) -> None:
        super().reset(scenario, num_envs, seed)
        self._rng = np.random.default_rng(seed)

    def act(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        weight = observation["action_mask"].astype(float)
        if "place" in self.layout.decisions:
            weight *= 1.0 - 0.9 * (self.column(observation, "candidates", "place.is_preempt") > 0)
        return np.array([self._rng.choice(len(w), p=w / w.sum()) for w in weight])


@dataclass(frozen=True)
class Seen:
    """What stood in the world itself at a decision or at the end, beside the recorder's scene."""

    now_s: float
    scene: Any
    gpu_owner: np.ndarray | None
    in_flight: int


@dataclass(frozen=True)
class Played:
    """A recorded episode, what was seen on the way, and the last info."""

    episode: Episode
    seen: list[Seen]
    info: dict[str, float]


def play(scenario: Scenario, seed: int, most_samples: int = 600) -> Played:
    """Play an episode at random; look at the world itself whenever the recorder does."""
    policy = Chance()
    policy.reset(scenario, 1, seed)
    env: Any = gym.make_vec(
        id_for(scenario), num_envs=1, scenario=scenario, autoreset_mode="Disabled"
    ).unwrapped
    observation, info = env.reset(seed=[seed])
    recorder = Recorder(scenario, most_samples)
    recorder.begin(env)
    seen, done = [_look(env)], False
    while not done:
        action, refused = policy.act(observation), info["invalid_actions"][0]
        first = {key: array[0] for key, array in observation.items()}
        observation, _, terminated, truncated, info = env.step(action)
        recorder.look(first, int(action[0]), bool(info["invalid_actions"][0] > refused))
        seen.append(_look(env))
        done = bool(terminated[0] | truncated[0])
    episode = recorder.episode("chance", seed, bool(truncated[0]))
    last = {key: float(array[0]) for key, array in info.items() if not key.startswith("_")}
    return Played(episode, seen, last)


def _look(env: Any) -> Seen:
    state = env._world.state
    owner = state["gpu_owner"][0].copy() if "gpu_owner" in state else None
    in_flight = int(state["router"]["in_flight"][0]) if "router" in state else 0
    return Seen(float(env._world.clock["now_s"][0]), env.scene(0), owner, in_flight)


@cache
def played(name: str) -> Played:
    """Return the episode of one of :data:`WORLDS`, played once."""
    return play(WORLDS[name](), seed=1)
