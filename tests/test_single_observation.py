"""Every policy acts on the observation of one environment as on a batch of one."""

import gymnasium as gym
import numpy as np
import pytest

import gpuyard  # noqa: F401  registers
from gpuyard import baselines
from gpuyard.envs.scenario import from_dict, load

ROUTING = load("routing-default")
PLACEMENT = from_dict(
    {
        "cluster": {
            "pools": [{"gpu": "H100-SXM", "nodes": 8}],
            "fabric": {"nodes_per_leaf": 2},
        },
        "jobs": {"preset": "mixed", "num_jobs": 12, "max_gpus": 32, "load": 2.0},
    }
)


def play(policy, scenario, env_id, decisions=12):
    """Play a single environment; return its actions and the observations that they were for."""
    env = gym.make(env_id, scenario=scenario)
    policy.reset(scenario, 1, seed=0)
    policy.attach(env)
    observation, _ = env.reset(seed=3)
    actions = []
    for _ in range(decisions):
        action = policy.act(observation)
        assert np.ndim(action) == 0 and env.action_space.contains(action)
        actions.append(int(action))
        observation, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            break
    return actions


def play_batch(policy, scenario, env_id, decisions=12):
    """Play the same as a batch of one."""
    envs = gym.make_vec(env_id, num_envs=1, scenario=scenario, autoreset_mode="Disabled")
    policy.reset(scenario, 1, seed=0)
    policy.attach(envs)
    observation, _ = envs.reset(seed=3)
    actions = []
    for _ in range(decisions):
        action = policy.act(observation)
        actions.append(int(action[0]))
        observation, _, terminated, truncated, _ = envs.step(action)
        if terminated[0] or truncated[0]:
            break
    return actions


@pytest.mark.parametrize("name", baselines.names("routing"))
def test_routers(name):
    one, many = (baselines.make(name) for _ in range(2))
    args = (ROUTING, "gpuyard/Routing-v0")
    assert play(one, *args) == play_batch(many, *args)


@pytest.mark.parametrize(
    "name", ["gang/random", "gang/sjf", "gang/easy-backfill", "topology/kai", "isolation/best-fit"]
)
def test_rules_and_planners_that_place(name):
    one, many = (baselines.make(name) for _ in range(2))
    args = (PLACEMENT, "gpuyard/Placement-v0", 40)
    assert play(one, *args) == play_batch(many, *args)


def test_a_composite():
    name = "compose:routing/dynamo+topology/kai+scaling/hpa-queue"
    one, many = (baselines.make(name) for _ in range(2))
    args = (load("cluster-default"), "gpuyard/Cluster-v0", 60)
    assert play(one, *args) == play_batch(many, *args)


def test_a_learned_policy_and_a_rule_of_ones_own():
    pytest.importorskip("torch")
    from gpuyard.agents.network import CandidatePolicy
    from gpuyard.agents.policy import LearnedPolicy

    env = gym.make("gpuyard/Routing-v0", scenario=ROUTING)
    network = CandidatePolicy(env.observation_space, env.action_space, lambda _: 0.0, width=8)
    one, many = (LearnedPolicy(network) for _ in range(2))
    args = (ROUTING, "gpuyard/Routing-v0")
    assert play(one, *args) == play_batch(many, *args)

    class Mine(baselines.Policy):
        def act(self, observation):
            return observation["action_mask"].argmax(axis=1)

    assert play(Mine(), *args) == play_batch(Mine(), *args)
