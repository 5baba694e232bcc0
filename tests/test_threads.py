"""Threads of a batch: how they share it, and that nobody can tell how many there were."""

from __future__ import annotations

import hashlib
import pickle
import time

import gymnasium as gym
import numpy as np
import pytest
from cluster_worlds import apart, service, small

from gpuyard.envs.threads import Threads, shares

SCENARIO = small(apart("chat"), service("code"), name="apart")


def digest(num_threads: int, copied: bool = False) -> str:
    """Play a batch at random over several episodes; return a digest of all that comes back."""
    env = gym.make_vec(
        "gpuyard/Cluster-v0",
        num_envs=5,
        scenario=SCENARIO,
        autoreset_mode="SameStep",
        max_episode_steps=150,
        num_threads=num_threads,
    )
    if copied:
        env = pickle.loads(pickle.dumps(env.unwrapped))
    rng = np.random.default_rng(0)
    observation, infos = env.reset(seed=3)
    found = hashlib.sha256()
    for _ in range(400):
        numbers = [infos[key] for key in sorted(infos) if infos[key].dtype == np.float64]
        for array in (*observation.values(), *numbers):
            found.update(np.ascontiguousarray(array).tobytes())
        draws = rng.random(observation["action_mask"].shape) * observation["action_mask"]
        observation, rewards, _, _, infos = env.step(draws.argmax(axis=1))
        infos.pop("final_info", None)
        found.update(rewards.tobytes())
    return found.hexdigest()


def test_any_number_of_threads_gives_the_same_bytes() -> None:
    one = digest(1)
    assert [digest(threads) for threads in (2, 3, 9)] == [one] * 3
    assert digest(2, copied=True) == one


@pytest.mark.parametrize(("envs", "threads"), [(64, 2), (5, 3), (3, 8), (1, 1)])
def test_every_environment_is_one_threads(envs: int, threads: int) -> None:
    parts = shares(envs, threads)
    assert len(parts) == min(envs, threads)
    assert (np.sum(parts, axis=0) == 1).all()
    sizes = [part.sum() for part in parts]
    assert min(sizes) >= 1 and max(sizes) - min(sizes) <= 1
    assert all(np.ptp(np.flatnonzero(part)) == part.sum() - 1 for part in parts), "a gap"


@pytest.mark.parametrize("threads", [0, -2, 1.5])
def test_no_threads_is_an_error(threads: float) -> None:
    with pytest.raises(ValueError, match=f"num_threads = {threads} must be a whole number"):
        gym.make_vec("gpuyard/Routing-v0", num_envs=2, num_threads=threads)


def test_all_threads_are_waited_for_where_one_fails() -> None:
    ended = []

    def work(thread: int) -> int:
        if thread == 0:
            raise KeyboardInterrupt
        time.sleep(0.05)
        ended.append(thread)
        return 1

    with pytest.raises(KeyboardInterrupt):
        Threads(3).total(work)
    assert sorted(ended) == [1, 2]
    assert Threads(3).total(lambda thread: thread) == 3
