"""The summary of devices and links: by hand, and against the mean of an encoder."""

import agents_fake  # noqa: F401  (registers the queue world)
import gymnasium as gym
import numpy as np
import torch

from gpuyard.agents.sb3 import SB3VecEnv
from gpuyard.agents.sets import KNOTS, SETS, SIZE, hats, summary


def seen(**values):
    return {key: torch.tensor(value) for key, value in values.items()}


def test_hats_by_hand():
    found = hats(torch.tensor([0.0, 0.3, 1.0]))
    expected = [[1, 0, 0, 0, 0], [0, 0.8, 0.2, 0, 0], [0, 0, 0, 0, 1]]
    np.testing.assert_allclose(found.T, expected, atol=1e-6)


def test_a_summary_by_hand():
    """A free device, and one with half its memory and a tenth of its FLOP/s in use; two links."""
    found = summary(
        seen(device_memory=[0.0, 0.5], device_load=[0.0, 0.1], link_load=[1.0, 0.25])
    ).numpy()
    devices, links, highest = np.split(found, [KNOTS**2, KNOTS**2 + KNOTS])
    expected = np.zeros((KNOTS, KNOTS))
    expected[0, 0] = 1 / 2
    expected[2, :2] = 0.6 / 2, 0.4 / 2
    np.testing.assert_allclose(devices.reshape(KNOTS, KNOTS), expected, atol=1e-6)
    np.testing.assert_allclose(links, [0, 1 / 2, 0, 0, 1 / 2], atol=1e-6)
    np.testing.assert_allclose(highest, [0.5, 0.1, 1.0])


def test_weighted_mean_hats_are_the_mean_of_a_piecewise_linear_encoder():
    load = np.random.default_rng(0).random((3, 40), np.float32)
    heights = np.array([0.3, -1.0, 2.0, 0.5, 4.0])
    expected = np.interp(load, np.linspace(0, 1, KNOTS), heights).mean(axis=1)
    found = summary(seen(device_memory=load, device_load=load, link_load=load)).numpy()
    links = found[:, KNOTS**2 :][:, :KNOTS]
    np.testing.assert_allclose(links @ heights, expected, rtol=1e-5)
    # without regard to memory, a device is its load
    devices = found[:, : KNOTS**2].reshape(3, KNOTS, KNOTS).sum(axis=1)
    np.testing.assert_allclose(devices @ heights, expected, rtol=1e-5)
    assert torch.allclose(hats(torch.as_tensor(load)).sum(dim=1), torch.ones(3, 40))


def test_a_learner_keeps_the_summary_and_not_the_devices():
    plain = gym.make_vec(
        "gpuyard-tests/Queue-v0", num_envs=3, requests=2, autoreset_mode="SameStep"
    )
    env = SB3VecEnv(plain, keys=("cluster", "sets"))
    assert env.observation_space["sets"].shape == (SIZE,)
    env.seed(0)
    assert env.reset()["sets"].shape == (3, SIZE)
    for _ in range(2):
        observation, _, _, infos = env.step(plain.action_masks().argmax(axis=1))
    assert set(observation) == {"cluster", "sets"} and not set(SETS) & set(observation)
    for info in infos:
        assert env.observation_space.contains(info["terminal_observation"])
