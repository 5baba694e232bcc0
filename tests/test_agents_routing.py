"""The agent in the routing world: exact resumption, and scenarios of other sizes."""

import shutil
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
from sb3_contrib import MaskablePPO
from stable_baselines3.common.vec_env import VecMonitor

from gpuyard.agents import training
from gpuyard.agents.config import TrainConfig
from gpuyard.agents.network import CandidatePolicy
from gpuyard.agents.policy import LearnedPolicy
from gpuyard.agents.sb3 import SB3VecEnv
from gpuyard.envs.scenario import from_dict, load
from gpuyard.evaluation.requests import request_latencies
from gpuyard.evaluation.rollout import rollout

ID = "gpuyard/Routing-v0"
TINY = TrainConfig(
    steps=1024, num_envs=8, n_steps=64, batch_size=256, checkpoint_every=512, width=16
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return training.train(replace(TINY, out=str(folder), name="whole"), progress=False)


def weights(path):
    return MaskablePPO.load(path, device="cpu").policy.state_dict()


@pytest.mark.filterwarnings("error")  # of a checkpoint that is passed over
def test_resume_restores_the_worlds_in_mid_episode(run, tmp_path):
    expected = weights(run.model)
    folder = shutil.copytree(run.folder, tmp_path / "run")
    (folder / "model.zip").unlink()  # as if it had been stopped after its last checkpoint
    resumed = training.resume(folder, progress=False)
    for name, value in weights(resumed.model).items():
        np.testing.assert_array_equal(value.numpy(), expected[name].numpy(), err_msg=name)


def test_sb3_predicts_on_the_environment_s_own_observations(run):
    """Training hands a network the parts that it reads; the environment has others too."""
    model = MaskablePPO.load(run.model, device="cpu")
    policy = LearnedPolicy.load(run.policy, greedy=True)
    env = gym.make(ID)
    policy.reset(env.unwrapped.scenario, 1)
    observation, _ = env.reset(seed=0)
    for _ in range(8):
        masks = env.unwrapped.action_masks()
        action, _ = model.predict(observation, deterministic=True, action_masks=masks)
        assert action == policy.act(observation)
        observation, *_ = env.step(action)
    envs = gym.make_vec(ID, num_envs=3)
    many, _ = envs.reset(seed=0)
    actions, _ = model.predict(many, action_masks=many["action_mask"] > 0)
    assert actions.shape == (3,)


@pytest.mark.parametrize("hold_s", [0.0, 0.05])
def test_a_model_acts_on_a_scenario_of_another_size(run, hold_s):
    policy = LearnedPolicy.load(run.policy)
    replicas = [{"gpu": "A100-80", "model": "Llama-3-8B", "count": 3}]
    table = {"replicas": replicas, "workload": {"preset": "chat", "num_requests": 40}}
    scenario = from_dict(table | {"router": {"hold_s": hold_s}}, "small")
    result = rollout("learned", policy, scenario, np.arange(3))
    assert (result.metrics["finished"] == 40).all()
    assert (result.metrics["invalid_actions"] == 0).all()


def test_measured_latencies_are_those_of_info(run):
    policy = LearnedPolicy.load(run.policy)
    result = rollout("learned", policy, load("routing-default"), np.arange(2))
    env = gym.make_vec(ID, num_envs=2, autoreset_mode="Disabled")
    done = np.zeros(2, bool)
    policy.reset(load("routing-default"), 2, seed=0)
    observation, _ = env.reset(seed=0)
    while not done.all():
        observation, _, done, _, info = env.step(policy.act(observation))
    for name, values in request_latencies(result.first["requests"]).items():  # of the whole episode
        np.testing.assert_allclose(np.nanmean(values), info[f"{name}_mean_s"][0], rtol=1e-9)
    np.testing.assert_allclose(result.metrics["reward"], -info["ttft_mean_s"] * 512, rtol=1e-6)


def test_staggered_environments_end_their_episodes_at_different_times():
    env = VecMonitor(SB3VecEnv(gym.make_vec(ID, num_envs=8, autoreset_mode="SameStep"), True))
    env.seed(0)
    progress = env.reset()["cluster"][:, 3]
    assert np.unique(progress).size == 8 and np.ptp(progress) > 0.8
    assert MaskablePPO(CandidatePolicy, env, n_steps=4, batch_size=32).learn(32)
