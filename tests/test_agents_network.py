"""The candidate-scoring network: independent of the number of candidates, blind to closed ones."""

import agents_fake  # registers the queue world
import gymnasium as gym
import numpy as np
import pytest
import torch
from sb3_contrib import MaskablePPO

from gpuyard.agents.network import CandidatePolicy
from gpuyard.agents.policy import LearnedPolicy
from gpuyard.agents.sb3 import SB3VecEnv

torch.set_num_threads(1)  # the suite shares its cores

ID = "gpuyard-tests/Queue-v0"


def model(servers=4, seed=0):
    env = gym.make_vec(ID, num_envs=2, autoreset_mode="SameStep", servers=servers)
    return MaskablePPO(CandidatePolicy, SB3VecEnv(env), n_steps=8, batch_size=16, seed=seed)


def batch(servers, n=6, seed=0):
    env = gym.make_vec(ID, num_envs=n, servers=servers)
    observation, _ = env.reset(seed=seed)
    for _ in range(5):
        observation, *_ = env.step(env.action_masks().argmax(axis=1))
    return observation


def tensors(observation):
    return {key: torch.as_tensor(value) for key, value in observation.items()}


def test_shapes_of_weights_do_not_depend_on_the_scenario():
    shapes = [
        {name: tuple(p.shape) for name, p in model(servers).policy.named_parameters()}
        for servers in (2, 4, 9)
    ]
    assert shapes[0] == shapes[1] == shapes[2]


def test_a_saved_model_acts_on_another_number_of_candidates(tmp_path):
    trained = model(4)
    trained.learn(64)
    trained.save(tmp_path / "model.zip")
    policy = LearnedPolicy.load(tmp_path / "model.zip")
    for servers in (2, 4, 9):
        observation = batch(servers)
        actions = policy.act(observation)
        assert actions.shape == (6,)
        assert observation["action_mask"][np.arange(6), actions].all()


def test_learned_policy_agrees_with_sb3(tmp_path):
    trained = model(4)
    trained.learn(64)
    trained.save(tmp_path / "model.zip")
    observation = batch(4, n=32)
    expected, _ = trained.predict(
        observation, deterministic=True, action_masks=observation["action_mask"] > 0
    )
    actions = LearnedPolicy.load(tmp_path / "model.zip", greedy=True).act(observation)
    np.testing.assert_array_equal(actions, expected)


def test_draws_follow_the_probabilities_and_the_seed():
    network, observation = model().policy, batch(4, n=1)
    many = {key: np.repeat(value, 20_000, axis=0) for key, value in observation.items()}
    policy = LearnedPolicy(network)
    policy.reset(agents_fake.SCENARIO, 20_000, seed=3)
    drawn = policy.act(many)
    feasible = observation["action_mask"] > 0
    expected = network.get_distribution(tensors(observation), feasible).distribution.probs
    shares = np.bincount(drawn, minlength=4) / len(drawn)
    np.testing.assert_allclose(shares, expected[0].detach().numpy(), atol=0.015)
    policy.reset(agents_fake.SCENARIO, 20_000, seed=3)
    np.testing.assert_array_equal(policy.act(many), drawn)


def test_scores_follow_a_permutation_of_the_candidates():
    network, observation = model().policy, batch(4)
    order = [2, 0, 3, 1]
    moved = dict(observation)
    for key in ("candidates", "action_mask"):
        moved[key] = observation[key][:, order]
    scores = network.scores(tensors(observation)).detach().numpy()
    permuted = network.scores(tensors(moved)).detach().numpy()
    np.testing.assert_allclose(permuted, scores[:, order], rtol=1e-5, atol=1e-7)


def test_infeasible_candidates_influence_nothing_else():
    network, observation = model().policy, batch(4)
    changed = dict(observation, candidates=observation["candidates"].copy())
    closed = observation["action_mask"] == 0
    changed["candidates"][closed] = 1.0
    before, after = (network.scores(tensors(o)).detach().numpy() for o in (observation, changed))
    np.testing.assert_allclose(after[~closed], before[~closed], rtol=1e-6)
    values = [network.predict_values(tensors(o)).detach().numpy() for o in (observation, changed)]
    np.testing.assert_allclose(*values, rtol=1e-6)


def test_a_model_of_other_columns_is_refused(tmp_path):
    model().save(tmp_path / "model.zip")
    observation = batch(4)
    observation["candidates"] = observation["candidates"][..., :-1]
    with pytest.raises(ValueError, match=r"trained with 5 'candidates' columns.*has 4"):
        LearnedPolicy.load(tmp_path / "model.zip").act(observation)


def test_files_that_are_no_model_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.zip: no such model file"):
        LearnedPolicy.load(tmp_path / "none.zip")
    (tmp_path / "text.zip").write_text("not a zip")
    with pytest.raises(ValueError, match=r"text\.zip: not a zip file"):
        LearnedPolicy.load(tmp_path / "text.zip")
    env = SB3VecEnv(gym.make_vec(ID, num_envs=2, autoreset_mode="SameStep"))
    MaskablePPO("MultiInputPolicy", env, n_steps=8, batch_size=16).save(tmp_path / "other.zip")
    with pytest.raises(ValueError, match="not a model of the candidate-scoring network"):
        LearnedPolicy.load(tmp_path / "other.zip")
