"""The SB3 adapter: what SB3 and sb3-contrib expect of a VecEnv."""

import agents_fake  # registers the queue world
import gymnasium as gym
import numpy as np
import pytest
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported
from stable_baselines3.common.vec_env import VecMonitor

from gpuyard.agents.sb3 import SB3VecEnv

ID = "gpuyard-tests/Queue-v0"


def make(n=3, **kwargs):
    return SB3VecEnv(gym.make_vec(ID, num_envs=n, autoreset_mode="SameStep", **kwargs))


def first_open(env):
    return np.stack(get_action_masks(env)).argmax(axis=1)


def test_refuses_other_autoreset_modes():
    with pytest.raises(ValueError, match="autoreset_mode='SameStep'"):
        SB3VecEnv(gym.make_vec(ID, num_envs=2))


def test_masks_come_as_one_array_of_the_current_state():
    env = make()
    env.seed(0)
    observation = env.reset()
    assert is_masking_supported(env)
    assert not env.has_attr("no_such_thing")
    np.testing.assert_array_equal(get_action_masks(env), observation["action_mask"] > 0)
    np.testing.assert_array_equal(
        env.env_method("action_masks", indices=[2])[0], observation["action_mask"][2] > 0
    )


def test_seeds_count_up_and_are_used_once():
    env, again = make(), make()
    env.seed(7)
    again.seed(7)
    first, same = env.reset(), again.reset()
    np.testing.assert_array_equal(first["queue"], same["queue"])
    single = make(1)
    single.seed(9)  # environment 2 of seed 7
    np.testing.assert_array_equal(single.reset()["queue"][0], first["queue"][2])
    assert not np.array_equal(env.reset()["queue"], first["queue"])
    assert len(env.reset_infos) == 3 and set(env.reset_infos[0]) == {"ttft_mean_s"}


@pytest.mark.parametrize("truncate", [False, True])
def test_end_of_an_episode(truncate):
    env = make(requests=5, truncate=truncate)
    env.seed(1)
    env.reset()
    for step in range(1, 11):
        observation, reward, done, infos = env.step(first_open(env))
        assert reward.dtype == np.float32 and done.dtype == bool
        assert done.all() == (step % 5 == 0)
        if not done.all():
            assert infos == [{}, {}, {}]
            continue
        for i, info in enumerate(infos):
            last = info["terminal_observation"]
            assert last["cluster"][3] == 1.0  # all requests decided
            assert observation["cluster"][i, 3] == 0.0  # the next episode's first
            assert info["TimeLimit.truncated"] is truncate
            assert info["ttft_mean_s"] >= 0.0


def test_monitor_adds_the_return():
    env = VecMonitor(make(requests=4))
    env.seed(2)
    env.reset()
    rewards, info = 0.0, {}
    for _ in range(4):
        _, reward, _, infos = env.step(first_open(env))
        rewards, info = rewards + reward[0], infos[0]
    assert info["episode"]["r"] == pytest.approx(rewards)
    assert info["episode"]["l"] == 4
    assert -info["ttft_mean_s"] * 4 == pytest.approx(rewards, rel=1e-6)


def test_maskable_ppo_with_its_own_policy_never_takes_a_closed_server():
    env = make(8)
    taken = []
    step = env.env.step

    def watched(actions):
        taken.append((actions != env.env.shut).all())
        return step(actions)

    env.env.step = watched
    MaskablePPO("MultiInputPolicy", env, n_steps=16, batch_size=64, seed=0).learn(256)
    assert all(taken)
    assert agents_fake.SCENARIO.name == "queues"
