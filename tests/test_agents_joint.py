"""What joint worlds need of the agent: staggered by a teacher, imitation of each kind of decision,
counted replicas, values that learn first and alone, and the best weights kept."""

import os
import signal
from dataclasses import replace

import agents_fake  # registers the queue world
import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from test_agents_training import TINY, assert_same, run, weights

from gpuyard.agents import checkpoint, imitation, network, stagger, training, validation
from gpuyard.agents.callbacks import CheckpointCallback
from gpuyard.agents.config import TrainConfig
from gpuyard.agents.network import KINDS, TABLES, CandidatePolicy, trained_for
from gpuyard.envs.observation import Layout
from gpuyard.evaluation.rollout import rollout

torch.set_num_threads(1)  # the suite shares its cores

ID = "gpuyard-tests/Queue-v0"
JOINT = Layout({"route", "place", "scale"})
CHECKED = {"validate_every": 512, "validate_seeds": 4}


def network_for(layout):
    box = lambda *shape: spaces.Box(0.0, 1.0, shape, np.float32)  # noqa: E731
    numbers = {key: len(layout.columns(key)) for key in TABLES}
    space = spaces.Dict(
        cluster=box(numbers["cluster"]),
        queue=box(2, numbers["queue"]),
        candidates=box(3, numbers["candidates"]),
        device_memory=box(4),
        device_load=box(4),
        link_load=box(4),
        action_mask=spaces.Box(0, 1, (3,), np.int8),
    )
    torch.manual_seed(0)
    policy = CandidatePolicy(
        space, spaces.Discrete(3), lambda _: 1e-3, width=8, **trained_for(layout)
    )
    rng = np.random.default_rng(0)
    observation = {
        key: torch.as_tensor(rng.random((6, *part.shape), np.float32))
        for key, part in space.items()
    }
    observation["action_mask"] = torch.ones((6, 3))
    observation["cluster"][:, KINDS] = torch.eye(3).repeat(2, 1)
    return policy, observation


def test_a_teacher_leaves_each_world_at_another_moment():
    env = gym.make_vec(ID, num_envs=8, autoreset_mode="SameStep", requests=32)
    teacher = agents_fake.JoinShortest()
    teacher.reset(agents_fake.SCENARIO, 8)
    observation = stagger.by_teacher(env, env.reset(seed=0)[0], teacher)
    # World i begins anew after i eighths of 32 requests, the first when all end.
    assert env.unwrapped.count.tolist() == [0, 28, 24, 20, 16, 12, 8, 4]
    np.testing.assert_allclose(observation["cluster"][:, agents_fake.PROGRESS] * 32,
                               env.unwrapped.count)  # fmt: skip


def test_the_memory_gives_as_many_of_each_kind_and_forgets_the_oldest():
    memory, rng = imitation.Memory(), np.random.default_rng(0)
    more = imitation.KEPT + 100
    for start in range(0, more, 100):
        routes = np.arange(start, min(start + 100, more))
        kinds = np.zeros(len(routes), int)
        kinds[0] = 2 if start < 500 else 0  # five are about scaling
        cluster = np.zeros((len(routes), KINDS[-1] + 1), np.float32)
        cluster[:, KINDS] = np.eye(3)[kinds]
        memory.add({"cluster": cluster, "number": routes})
    drawn = memory.draw(rng, torch.device("cpu"))
    kinds = drawn["cluster"][:, KINDS].argmax(dim=1)
    many = imitation.OF_A_KIND
    assert torch.bincount(kinds, minlength=3).tolist() == [many, 0, many]
    assert set(drawn["number"][kinds == 2].tolist()) == {0, 100, 200, 300, 400}
    everything = {
        n
        for _ in range(200)
        for n in memory.draw(rng, torch.device("cpu"))["number"][:many].tolist()
    }
    assert min(everything) == 96  # 2,143 routes were added: the oldest 95, 1 to 95, made room


def test_odds_by_hand():
    shares = torch.tensor([0.0, 0.5, 0.75, 0.9, 1.0])
    np.testing.assert_allclose(network.odds(shares), [0.0, 1.0, 3.0, 4.0, 4.0], rtol=1e-6)


def test_only_what_scales_counts_replicas():
    joint, _ = network_for(JOINT)
    names = JOINT.names("candidates")
    counted = network.counted(joint.names)
    assert counted and all(names[at].startswith("scale.") for at in counted)
    assert joint.number == network.SCALING_NETWORK == int(joint.network)
    first = joint.features_extractor.candidate[0]
    assert first.in_features == 2 * len(names) + len(counted)
    for decisions in ({"route"}, {"place"}):
        other, _ = network_for(Layout(decisions))
        first = other.features_extractor.candidate[0]
        assert first.in_features == 2 * len(Layout(decisions).names("candidates"))
        assert other.number == network.NETWORK == int(other.network)
        assert not any("outlook" in name for name in other.state_dict())


def test_a_replica_more_is_as_much_for_few_as_for_many():
    """From 1 to 2 and from 2 to 3 times what there was: the first layer sees the same change."""
    joint, observation = network_for(JOINT)
    at = network.counted(joint.names)[0]
    encoder = joint.features_extractor
    size = 2 * observation["candidates"].shape[-1]
    with torch.no_grad():
        encoder.candidate[0].weight[:, :size] = 0.0  # what is not counted
        encoder.candidate[0].weight.abs_()  # so that no ReLU hides the change
    observation["candidates"][0, :, at] = torch.tensor([1 / 2, 2 / 3, 3 / 4])
    observation["candidates"][0, :, network.counted(joint.names)[1:]] = 0.5
    chosen = observation["candidates"][0]
    read = (chosen, network.log_odds(chosen), network.odds(chosen[:, encoder.counted]))
    once, twice, thrice = encoder.candidate[0](torch.cat(read, dim=1)).detach()
    np.testing.assert_allclose(thrice - twice, twice - once, rtol=1e-4)
    assert (twice - once).abs().max() > 1e-3


def test_what_values_learn_changes_nothing_that_the_policy_sees():
    joint, observation = network_for(JOINT)
    _, values = joint.mlp_extractor(joint.features_extractor(observation))
    values.square().sum().backward()
    learned = {name for name, p in joint.named_parameters() if p.grad is not None}
    critic = {id(p) for p in joint.critic_parameters()}
    assert learned == {name for name, p in joint.named_parameters() if id(p) in critic}
    assert any("outlook" in name for name in learned)


def test_only_values_learn_at_first(tmp_path):
    config = replace(TINY, critic_steps=1024)
    before = training._model(config, training.make_env(config)).policy.state_dict()

    def changed(steps):
        after = weights(run(tmp_path, critic_steps=1024, steps=steps).model)
        return {name for name in after if not np.array_equal(after[name], before[name])}

    values = {name for name in before if ".value." in name}
    assert changed(1024) and changed(1024) <= values
    assert changed(2048) > values


def test_a_run_that_validates_resumes_exactly(tmp_path):
    settings = CHECKED | {"critic_steps": 1024, "checkpoint_every": 1024}
    whole = run(tmp_path, name="whole", **settings)
    expected = weights(whole.model)
    whole.model.unlink()
    assert_same(weights(training.resume(whole.folder, progress=False).model), expected)


def test_the_weights_that_played_best_are_kept(tmp_path, monkeypatch):
    rewards, seen = [1.0, 5.0, 2.0, 5.0, 4.0], []

    def play(policy, config):
        seen.append({key: v.clone().numpy() for key, v in policy.network.state_dict().items()})
        return rewards[len(seen) - 1]

    monkeypatch.setattr(validation, "mean_reward", play)
    trained = run(tmp_path, **CHECKED)
    assert len(seen) == 5  # at first, after 512, 1024 and 1536 decisions, and at the end
    assert_same(weights(trained.model), seen[1])
    assert any(not np.array_equal(seen[-1][key], value) for key, value in seen[1].items())


def test_the_best_weights_belong_to_the_checkpoint(tmp_path, monkeypatch):
    rewards = iter([0.0, 7.0, 1.0, 2.0, 3.0, 4.0])
    monkeypatch.setattr(validation, "mean_reward", lambda policy, config: next(rewards))
    step = CheckpointCallback._on_step

    def press(self):
        if self.num_timesteps == 1200:
            os.kill(os.getpid(), signal.SIGINT)
        return step(self)

    monkeypatch.setattr(CheckpointCallback, "_on_step", press)
    cut = run(tmp_path, name="cut", **CHECKED)
    assert cut.model is None
    (path,) = checkpoint.found(cut.folder / "checkpoints")
    monkeypatch.setattr(CheckpointCallback, "_on_step", step)
    model = training._model(TINY, training.make_env(TINY))
    best = checkpoint.Best()
    checkpoint.restore(path, model, model.get_vec_normalize_env(), best)
    assert (best.looked, best.reward) == (1536, 7.0)
    after = weights(training.resume(cut.folder, progress=False).model)  # the last look: 3.0
    assert_same(after, {key: value.numpy() for key, value in best.weights.items()})
    assert next(rewards) == 4.0


def test_a_run_without_validation_plays_none(tmp_path, monkeypatch):
    def fail(policy, config):
        raise AssertionError("played")

    monkeypatch.setattr(validation, "mean_reward", fail)
    assert run(tmp_path).model is not None


def test_validation_plays_an_episode_per_seed():
    config = replace(TINY, validate_seeds=5)
    seeds = validation.FIRST_SEED + np.arange(5)
    played = rollout("", agents_fake.JoinShortest(), agents_fake.SCENARIO, seeds, ID)
    expected = played.metrics["reward"].mean()
    assert validation.mean_reward(agents_fake.JoinShortest(), config) == pytest.approx(expected)


def test_defaults_by_decisions():
    joint, routing = TrainConfig.of(env="gpuyard/Cluster-v0"), TrainConfig.of()
    assert joint.validate_every > 0 and joint.critic_steps > 0 and joint.of_a_kind > 0
    assert routing.validate_every == routing.critic_steps == routing.of_a_kind == 0
    with pytest.raises(ValueError, match="validate_seeds = 0: must be at least 1"):
        TrainConfig(validate_seeds=0)
