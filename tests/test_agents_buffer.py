"""Advantages per request, against stable-baselines3's and by hand."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_contrib.common.maskable.buffers import MaskableDictRolloutBuffer

from gpuyard.agents.buffer import PROGRESS, ProgressRolloutBuffer
from gpuyard.agents.network import KINDS

SPACE = spaces.Dict(cluster=spaces.Box(0.0, 1.0, (PROGRESS + 1,), np.float32))


def filled(kind, progress, rewards, starts, values, gamma=0.5, gae_lambda=0.5):
    steps, envs = rewards.shape
    buffer = kind(
        steps, SPACE, spaces.Discrete(2), "cpu", gamma=gamma, gae_lambda=gae_lambda, n_envs=envs
    )
    buffer.observations["cluster"][:, :, PROGRESS] = progress
    buffer.rewards[:], buffer.episode_starts[:], buffer.values[:] = rewards, starts, values
    return buffer


def test_without_holding_it_is_the_usual_estimator():
    rng = np.random.default_rng(0)
    rewards, values = rng.normal(size=(2, 12, 3))
    starts = rng.random((12, 3)) < 0.2
    progress = np.arange(12)[:, None] / 12 + np.zeros(3)
    last, dones = torch.as_tensor(rng.normal(size=(3, 1))), np.array([True, False, False])
    ours, theirs = (
        filled(kind, progress, rewards, starts, values, gamma=0.9, gae_lambda=0.8)
        for kind in (ProgressRolloutBuffer, MaskableDictRolloutBuffer)
    )
    for buffer in (ours, theirs):
        buffer.compute_returns_and_advantage(last, dones)
    np.testing.assert_allclose(ours.advantages, theirs.advantages, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(ours.returns, theirs.returns, rtol=1e-5, atol=1e-6)


def test_holding_discounts_nothing():
    # Three decisions, the first one holds (no progress); all values 0; last value 8, going on.
    column = lambda *numbers: np.array(numbers, float)[:, None]  # noqa: E731
    buffer = filled(
        ProgressRolloutBuffer, column(0.1, 0.1, 0.2), column(1, 2, 4), column(1, 0, 0),
        column(0, 0, 0),
    )  # fmt: skip
    buffer.compute_returns_and_advantage(torch.tensor([[8.0]]), np.array([False]))
    third = 4 + 0.5 * 8
    second = 2 + 0.5 * 0.5 * third
    first = 1 + second
    assert buffer.advantages[:, 0] == pytest.approx([first, second, third])


def test_two_finishes_after_one_decision_discount_twice():
    column = lambda *numbers: np.array(numbers, float)[:, None]  # noqa: E731
    buffer = filled(
        ProgressRolloutBuffer, column(0.0, 0.2, 0.3), column(1, 2, 4), column(1, 0, 0),
        column(0, 0, 0), gae_lambda=1.0,
    )  # fmt: skip
    buffer.compute_returns_and_advantage(torch.tensor([[8.0]]), np.array([False]))
    third = 4 + 0.5 * 8
    second = 2 + 0.5 * third
    first = 1 + 0.5**2 * second
    assert buffer.advantages[:, 0] == pytest.approx([first, second, third])


@pytest.mark.parametrize(("limit", "of_kinds"), [(0, [40, 16, 8]), (10, [10, 10, 8])])
def test_a_gradient_step_takes_so_many_of_each_kind_at_most(limit, of_kinds):
    kinds = np.repeat(np.arange(3), [40, 16, 8]).reshape(16, 4)  # steps, environments
    buffer = filled(ProgressRolloutBuffer, *np.zeros((4, 16, 4)))
    buffer.observations["cluster"][..., KINDS] = np.eye(3)[kinds]
    buffer.actions[..., 0] = kinds
    buffer.full, buffer.of_a_kind = True, limit
    (batch,) = buffer.get(64)
    of = batch.observations["cluster"][:, KINDS].argmax(dim=1)
    assert torch.bincount(of).tolist() == of_kinds
    assert (batch.actions.flatten() == of).all()  # rows stay together


def test_advantages_are_scaled_by_kind_where_there_is_a_limit():
    rng = np.random.default_rng(0)
    kinds = np.repeat(np.arange(3), [40, 16, 8]).reshape(16, 4)
    rewards = rng.normal(size=(16, 4)) * np.array([1.0, 100.0, 1e4])[kinds]
    plain, scaled = (
        filled(ProgressRolloutBuffer, np.zeros((16, 4)), rewards, *np.zeros((2, 16, 4)))
        for _ in range(2)
    )
    for buffer, limit in ((plain, 0), (scaled, 10)):
        buffer.observations["cluster"][..., KINDS] = np.eye(3)[kinds]
        buffer.of_a_kind = limit
        buffer.compute_returns_and_advantage(torch.zeros(4), np.zeros(4, bool))
    np.testing.assert_array_equal(scaled.returns, plain.returns)  # values learn what is true
    for kind in range(3):
        its = plain.advantages[kinds == kind]
        expected = (its - its.mean()) / its.std()
        np.testing.assert_allclose(scaled.advantages[kinds == kind], expected, rtol=1e-3, atol=1e-5)
