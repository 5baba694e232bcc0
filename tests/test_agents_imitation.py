"""The warm start: the network ends up acting like its teacher."""

import agents_fake  # registers the queue world
import gymnasium as gym
import torch

from gpuyard.agents.imitation import imitate
from gpuyard.agents.network import CandidatePolicy
from gpuyard.agents.policy import LearnedPolicy
from gpuyard.evaluation.report import compare
from gpuyard.evaluation.statistics import paired_interval

torch.set_num_threads(1)  # the suite shares its cores

ID = "gpuyard-tests/Queue-v0"


def test_imitation_reaches_the_teacher():
    env = gym.make_vec(ID, num_envs=32, autoreset_mode="SameStep")
    spaces = env.single_observation_space, env.single_action_space
    network = CandidatePolicy(*spaces, lr_schedule=lambda _: 1e-3, width=16)
    agreement = imitate(
        network, agents_fake.JoinShortest(), env, 6400, learning_rate=1e-2, progress=False
    )
    assert agreement > 0.85
    policies = {"learned": LearnedPolicy(network), "any": agents_fake.AnyServer()}
    learned, anything = compare(policies, [agents_fake.SCENARIO], 8, ID, quiet=True)
    gain = paired_interval(learned.metrics["reward"], anything.metrics["reward"])
    assert gain.low > 0.0
