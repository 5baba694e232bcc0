"""The candidate-scoring network: independent of the number of candidates, blind to closed ones."""

import math
from types import SimpleNamespace

import agents_fake  # registers the queue world
import gymnasium as gym
import numpy as np
import pytest
import torch
from agents_fake import LAYOUT
from safetensors.torch import save_file
from sb3_contrib import MaskablePPO

from gpuyard.agents import network as networks
from gpuyard.agents.network import IN_USE, KINDS, TABLES, CandidatePolicy, trained_for
from gpuyard.agents.policy import LearnedPolicy
from gpuyard.agents.sb3 import SB3VecEnv
from gpuyard.agents.sets import SETS
from gpuyard.baselines.linear import log_odds
from gpuyard.commands import choosing
from gpuyard.envs.observation import DECISIONS, Layout

torch.set_num_threads(1)  # the suite shares its cores

ID = "gpuyard-tests/Queue-v0"


def model(servers=4, seed=0, names=False):
    env = gym.make_vec(ID, num_envs=2, autoreset_mode="SameStep", servers=servers)
    known = trained_for(LAYOUT) if names else {}
    return MaskablePPO(
        CandidatePolicy, SB3VecEnv(env), n_steps=8, batch_size=16, seed=seed, policy_kwargs=known
    )


def batch(servers, n=6, seed=0):
    env = gym.make_vec(ID, num_envs=n, servers=servers)
    observation, _ = env.reset(seed=seed)
    for _ in range(5):
        observation, *_ = env.step(env.action_masks().argmax(axis=1))
    return observation


def tensors(observation):
    return {key: torch.as_tensor(value) for key, value in observation.items()}


def crowded(servers, n=6):
    """Observations with devices and links in use, and four requests in the queue."""
    observation, rng = batch(servers, n), np.random.default_rng(1)
    for key in SETS:
        observation[key] = rng.random(observation[key].shape, np.float32)
    observation["queue"] = rng.random((n, 4, observation["queue"].shape[-1]), np.float32)
    observation["queue"][..., IN_USE] = 1.0, 0.0
    return observation


def outputs(network, observation):
    """Logits of feasible candidates, 0 for others, then the value, shape (n, C + 1)."""
    with torch.no_grad():
        features = network.features_extractor(tensors(observation))
        logits, values = network.mlp_extractor(features)
    return torch.cat((logits * features.mask, values), dim=1).numpy()


def test_shapes_of_weights_do_not_depend_on_the_scenario():
    shapes = [
        {name: tuple(p.shape) for name, p in model(servers).policy.named_parameters()}
        for servers in (2, 4, 9)
    ]
    assert shapes[0] == shapes[1] == shapes[2]


def test_a_saved_model_acts_on_another_number_of_candidates(tmp_path):
    trained = model(4)
    trained.learn(64)
    LearnedPolicy(trained.policy).save(tmp_path / "policy.safetensors")
    policy = LearnedPolicy.load(tmp_path / "policy.safetensors")
    policy.reset(agents_fake.SCENARIO, 6)
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
    whole = LearnedPolicy.load(tmp_path / "model.zip", greedy=True, allow_pickle=True)
    whole.save(tmp_path / "policy.safetensors")
    safe = LearnedPolicy.load(tmp_path / "policy.safetensors", greedy=True)
    for policy in (whole, safe):
        policy.reset(agents_fake.SCENARIO, 32)
        np.testing.assert_array_equal(policy.act(observation), expected)
    for name, value in safe.network.state_dict().items():
        assert torch.equal(value, trained.policy.state_dict()[name]), name


def test_a_model_with_pickles_needs_a_word(tmp_path):
    trained = model()
    trained.save(tmp_path / "model.zip")
    with pytest.raises(ValueError, match=r"model\.zip: holds pickles.*a policy\.safetensors"):
        LearnedPolicy.load(tmp_path / "model.zip")
    LearnedPolicy(trained.policy).save(tmp_path / "policy.safetensors")
    with pytest.raises(ValueError, match=rf"name {tmp_path / 'policy.safetensors'}, or.*=true"):
        choosing.policy(str(tmp_path / "model.zip"))
    asked = choosing.policy(f"{tmp_path / 'model.zip'}?allow_pickle=true&greedy=true")
    assert isinstance(asked, LearnedPolicy) and asked.greedy is True
    with pytest.raises(ValueError, match=r"no option 'trust'; it accepts greedy, allow_pickle"):
        choosing.policy(f"{tmp_path / 'model.zip'}?trust=1")
    with pytest.raises(ValueError, match=r"mine\.pt: must end in \.safetensors"):
        asked.save(tmp_path / "mine.pt")


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


@pytest.mark.parametrize(
    ("keys", "order"),
    [
        (["device_memory", "device_load"], [5, 2, 7, 0, 1, 3, 6, 4]),
        (["link_load"], [2, 0, 1]),
        (["queue"], [0, 3, 1, 2]),  # the first row is what is decided about
    ],
)
def test_the_order_in_a_set_does_not_matter_its_elements_do(keys, order):
    network, observation = model().policy, crowded(4)
    before = outputs(network, observation)
    moved = {key: observation[key][:, order] for key in keys}
    np.testing.assert_allclose(outputs(network, observation | moved), before, atol=1e-6)
    other = {key: observation[key].copy() for key in keys}
    for values in other.values():
        values[:, 1] = 1.0 - values[:, 1]
        if values.ndim == 3:
            values[..., IN_USE] = observation["queue"][..., IN_USE]
    assert np.abs(outputs(network, observation | other) - before).max() > 1e-4


def test_twice_the_devices_and_links_of_the_same_kind_look_alike():
    network, observation = model().policy, crowded(4)
    twice = {key: np.repeat(observation[key], 2, axis=1) for key in SETS}
    np.testing.assert_allclose(
        outputs(network, observation | twice), outputs(network, observation), atol=1e-6
    )


def test_rows_of_the_queue_that_are_not_in_use_say_nothing():
    network, observation = model().policy, batch(4)
    queue = np.concatenate([observation["queue"], np.ones((6, 3, 8), np.float32)], axis=1)
    queue[:, 2:, IN_USE] = 0.0
    np.testing.assert_allclose(
        outputs(network, observation | {"queue": queue}), outputs(network, observation), rtol=1e-6
    )


def of_kinds(*kinds):
    observation = crowded(4, n=len(kinds))
    observation["cluster"][:, KINDS] = np.eye(3)[[DECISIONS.index(kind) for kind in kinds]]
    return observation


def test_heads_learn_from_their_kind_only():
    network = model().policy
    features = network.features_extractor(tensors(of_kinds("place", "place", "scale")))
    logits, values = network.mlp_extractor(features)
    (logits.square().sum() + values.sum()).backward()
    learned = {
        kind: {name for name, weight in head.named_parameters() if weight.grad.abs().sum() > 0}
        for kind, head in network.mlp_extractor.of.items()
    }
    every = {name for name, _ in networks.Head(1).named_parameters()}
    assert learned == {"route": set(), "place": every, "scale": every, "migrate": set()}


def test_kinds_in_one_batch_do_not_mix():
    network = model().policy
    together = of_kinds("scale", "route", "place", "route")
    alone = [
        outputs(network, {key: value[[at]] for key, value in together.items()}) for at in range(4)
    ]
    np.testing.assert_allclose(outputs(network, together), np.concatenate(alone), atol=1e-6)
    same = {key: value[[0, 0, 0]] for key, value in together.items()}
    same["cluster"][:, KINDS] = np.eye(3)
    few = outputs(network, same)
    assert np.abs(few[0] - few[1]).max() > 1e-4 and np.abs(few[1] - few[2]).max() > 1e-4


def test_a_network_has_heads_for_what_it_decides():
    assert list(model().policy.mlp_extractor.of) == list(DECISIONS)
    assert list(model(names=True).policy.mlp_extractor.of) == ["route"]


def test_log_odds_by_hand():
    shares = torch.tensor([0.0, 0.2, 0.5, 0.9, 1.0])  # log 1/4, 1, 9; beyond 6 either way
    expected = [-2.0, -math.log(4) / 3, 0.0, math.log(9) / 3, 2.0]
    np.testing.assert_allclose(networks.log_odds(shares), expected, atol=1e-5)
    many = np.linspace(0, 1, 201, dtype=np.float32)
    np.testing.assert_allclose(networks.log_odds(torch.tensor(many)), log_odds(many), 1e-4)


def test_a_code_by_hand():
    """Of width 1: the first layer adds up column 1, the log-odds of column 0 and -1; times 2."""
    space = batch(4)
    encoder = networks.CandidateEncoder(model().policy.observation_space, width=1)
    first, _, second, _ = encoder.candidate
    size = space["candidates"].shape[-1]
    with torch.no_grad():
        first.weight.zero_()[0, [1, size]] = 1.0
        first.bias.fill_(-1.0)
        second.weight.fill_(2.0)
        second.bias.zero_()
    candidates = np.full_like(space["candidates"], 0.5)
    candidates[0, :3, :2] = (0.9, 1.0), (0.5, 1.0), (0.1, 1.0)
    candidates[0, 3, :2] = 0.9, 0.5
    codes = encoder(tensors(space | {"candidates": candidates, "action_mask": np.ones((6, 4))}))
    odds = math.log(9) / 3
    expected = [2 * odds, 0.0, 0.0, 2 * (odds - 0.5)]
    np.testing.assert_allclose(codes.codes[codes.state == 0, 0].detach(), expected, atol=1e-6)


def test_weights_of_another_network_are_refused_by_name(tmp_path, monkeypatch):
    trained = model()
    trained.policy.network.fill_(1)
    trained.save(tmp_path / "old.zip")
    with pytest.raises(ValueError, match=r"old\.zip: weights of network 1.* has network 3: train"):
        LearnedPolicy.load(tmp_path / "old.zip", allow_pickle=True)
    del trained.policy.network  # as in files from before networks had numbers
    trained.save(tmp_path / "older.zip")
    with pytest.raises(ValueError, match=r"weights of network 1, but this version has network 3"):
        LearnedPolicy.load(tmp_path / "older.zip", allow_pickle=True)
    LearnedPolicy(model().policy).save(tmp_path / "old.safetensors")
    monkeypatch.setattr(networks, "NETWORK", 5)
    with pytest.raises(ValueError, match=r"weights of network 3, but this version has network 5"):
        LearnedPolicy.load(tmp_path / "old.safetensors")


def test_infeasible_candidates_influence_nothing_else():
    network, observation = model().policy, batch(4)
    changed = dict(observation, candidates=observation["candidates"].copy())
    closed = observation["action_mask"] == 0
    changed["candidates"][closed] = 1.0
    before, after = (network.scores(tensors(o)).detach().numpy() for o in (observation, changed))
    np.testing.assert_allclose(after[~closed], before[~closed], rtol=1e-6)
    values = [network.predict_values(tensors(o)).detach().numpy() for o in (observation, changed)]
    np.testing.assert_allclose(*values, rtol=1e-6)


class Columns:
    """A layout of as many routing columns as given, in that order, some of them added."""

    decisions = ("route",)

    def __init__(self, **names):
        self.columns_of = {key: list(LAYOUT.names(key)) for key in TABLES} | names

    def names(self, key):
        return tuple(self.columns_of[key])

    def index(self, key, name):
        return self.columns_of[key].index(name)


def scenario_with(layout):
    return SimpleNamespace(name="other", decisions=frozenset({"route"}), layout=layout)


def test_a_model_without_names_is_refused_where_there_are_other_columns(tmp_path):
    LearnedPolicy(model().policy).save(tmp_path / "policy.safetensors")
    policy = LearnedPolicy.load(tmp_path / "policy.safetensors")
    policy.reset(agents_fake.SCENARIO, 6)
    assert policy.act(batch(4)).shape == (6,)
    fewer = Columns(candidates=LAYOUT.names("candidates")[:-1])
    with pytest.raises(ValueError, match=r"trained with 21 'candidates' columns.*has 20"):
        policy.reset(scenario_with(fewer), 6)


def test_a_model_finds_its_columns_by_name(tmp_path):
    trained = model(4, names=True)
    trained.learn(64)
    LearnedPolicy(trained.policy).save(tmp_path / "policy.safetensors")
    policy = LearnedPolicy.load(tmp_path / "policy.safetensors", greedy=True)
    assert policy.decides == {"route"}
    policy.reset(agents_fake.SCENARIO, 6)
    observation = batch(4)
    actions = policy.act(observation)

    # all columns turned round, and two more
    layout = Columns(
        **{key: ("common.new", *reversed(LAYOUT.names(key)), "place.new") for key in TABLES}
    )
    policy.reset(scenario_with(layout), 6)
    moved = dict(observation)
    for key in TABLES:
        new = np.full((*observation[key].shape[:-1], 1), 0.7, np.float32)
        moved[key] = np.concatenate([new, observation[key][..., ::-1], new], axis=-1)
    np.testing.assert_array_equal(policy.act(moved), actions)

    lost = Columns(queue=[name for name in LAYOUT.names("queue") if name != "route.age_s"])
    with pytest.raises(ValueError, match=r"reads 'queue' columns.* have: route\.age_s; train"):
        policy.reset(scenario_with(lost), 6)


def test_a_model_is_for_the_decisions_that_it_was_trained_for(tmp_path):
    policy = LearnedPolicy(model(names=True).policy)
    placing = Layout({"place"})
    yard = SimpleNamespace(name="yard", decisions=frozenset({"place"}), layout=placing)
    with pytest.raises(ValueError, match="LearnedPolicy decides route, but scenario 'yard' asks"):
        policy.reset(yard, 6)
    joint = Layout({"route", "place"})
    part = SimpleNamespace(name="part", decisions=frozenset({"route"}), layout=joint)
    policy.reset(part, 6)  # as a composite does


def test_files_that_are_no_model_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.safetensors: no such model file"):
        LearnedPolicy.load(tmp_path / "none.safetensors")
    (tmp_path / "text.zip").write_text("not a zip")
    with pytest.raises(ValueError, match=r"text\.zip: not a zip file"):
        LearnedPolicy.load(tmp_path / "text.zip", allow_pickle=True)
    env = SB3VecEnv(gym.make_vec(ID, num_envs=2, autoreset_mode="SameStep"))
    MaskablePPO("MultiInputPolicy", env, n_steps=8, batch_size=16).save(tmp_path / "other.zip")
    with pytest.raises(ValueError, match="not a model of the candidate-scoring network"):
        LearnedPolicy.load(tmp_path / "other.zip", allow_pickle=True)
    save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="not a model of the candidate-scoring network"):
        LearnedPolicy.load(tmp_path / "other.safetensors")
    LearnedPolicy(model().policy).save(tmp_path / "whole.safetensors")
    whole = (tmp_path / "whole.safetensors").read_bytes()
    for length in (0, 100, len(whole) - 100):
        (tmp_path / "cut.safetensors").write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"cut\.safetensors: not a whole model"):
            LearnedPolicy.load(tmp_path / "cut.safetensors")
