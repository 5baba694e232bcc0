"""Plays one episode and records it."""

from __future__ import annotations

from typing import Any

import gymnasium as gym

from gpuyard.baselines import Policy
from gpuyard.envs.scenario import Scenario
from gpuyard.ids import id_for

from .decisions import DecisionRecorder, Observation, Step
from .episode import Episode
from .gangs import OutageRecorder, PhaseRecorder, RunRecorder
from .requests import RequestRecorder
from .samples import MOST_SAMPLES, SampleRecorder


def play(
    name: str, policy: Policy, scenario: Scenario, seed: int = 0, most_samples: int = MOST_SAMPLES
) -> Episode:
    """Play the episode of a seed with a policy, and return what happened.

    Args:
        name: of the policy, to be shown.
        policy: reset and attached here, its own randomness seeded with 0 as in a rollout.
        scenario: the world.
        seed: of the episode.
        most_samples: of link loads and KV caches, kept in all.

    Raises:
        ValueError: the policy is for other decisions than the scenario's.
    """
    policy.reset(scenario, 1, seed=0)
    env: Any = gym.make_vec(
        id_for(scenario), num_envs=1, scenario=scenario, autoreset_mode="Disabled"
    )
    policy.attach(env)
    observation, info = env.reset(seed=[seed])
    recorder = Recorder(scenario, most_samples)
    recorder.begin(env.unwrapped)
    done = False
    while not done:
        action = policy.act(observation)
        seen, refused = observation, info["invalid_actions"][0]
        observation, _, terminated, truncated, info = env.step(action)
        done = bool(terminated[0] | truncated[0])
        first = {key: array[0] for key, array in seen.items()}
        recorder.look(first, int(action[0]), bool(info["invalid_actions"][0] > refused))
    episode = recorder.episode(name, seed, bool(truncated[0]))
    env.close()
    return episode


class Recorder:
    """Looks at environment 0 of a batch at every decision.

    Args:
        scenario: the world.
        most_samples: of link loads and KV caches, kept in all.
    """

    def __init__(self, scenario: Scenario, most_samples: int = MOST_SAMPLES) -> None:
        self._scenario = scenario
        requests = scenario.workload.num_requests if scenario.workload else 0
        gangs = [slot.gang for slot in scenario.slots] if scenario.services else None
        self._requests = RequestRecorder(requests, len(scenario.replicas))
        self._runs = RunRecorder()
        self._phases = PhaseRecorder(gangs, self._runs)
        self._outages = OutageRecorder()
        self._decisions = DecisionRecorder(scenario)
        self._samples = SampleRecorder(most_samples)

    def begin(self, env: Any) -> None:
        """Look at an episode that has just begun in ``env``, a vector environment."""
        self._env, self._scene = env, env.scene(0)
        self._see(0.0)

    def look(self, observation: Observation, action: int, refused: bool) -> None:
        """Look at what a step has made of the last scene.

        Args:
            observation: on which the action was chosen, without a leading axis.
            action: the candidate that the policy took.
            refused: whether it was infeasible.
        """
        before = self._scene
        self._scene = self._env.scene(0, self._requests.first)
        self._see(before.now_s)
        step = Step(observation, action, refused, before, self._scene, self._runs)
        self._decisions.look(step)

    def _see(self, before_s: float) -> None:
        self._runs.look(self._scene)
        self._phases.look(self._scene, before_s)
        self._outages.look(self._scene)
        if self._scene.is_current:
            self._requests.look(self._scene)
        self._samples.look(self._scene)

    def episode(self, policy: str, seed: int, truncated: bool) -> Episode:
        """Return all that was seen, once the episode has ended."""
        end_s = self._scene.now_s
        return Episode(
            scenario=self._scenario,
            policy=policy,
            seed=seed,
            end_s=end_s,
            truncated=truncated,
            tables=self._env.results(0),
            gangs=self._scene.gangs,
            runs=self._runs.all(end_s),
            phases=self._phases.all(end_s),
            stays=self._requests.all(end_s),
            outages=self._outages.all(end_s),
            decisions=self._decisions.all(),
            samples=self._samples.all(),
        )
