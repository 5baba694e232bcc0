"""The agent in a placement world: planners as teachers, training, rollouts, without the engine."""

import shutil
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from agents_fake import AnyServer
from placement_fake import LAYOUT, NODES, PER_NODE, ROWS, SCENARIO, FirstCome, Shortest
from views import make_view

from gpuyard.agents import training
from gpuyard.agents.callbacks import read_curve
from gpuyard.agents.config import OWN_DEFAULTS, TrainConfig
from gpuyard.agents.imitation import imitate
from gpuyard.agents.network import KEYS, CandidatePolicy
from gpuyard.agents.policy import LearnedPolicy
from gpuyard.baselines import make
from gpuyard.baselines.planner import rows_like
from gpuyard.envs.cluster_view import Plan
from gpuyard.envs.observation import TABLES
from gpuyard.evaluation.report import compare, report
from gpuyard.evaluation.rollout import rollout
from gpuyard.evaluation.statistics import paired_interval

torch.set_num_threads(1)  # the suite shares its cores

ID = "gpuyard-tests/Yard-v0"
SEEDS = np.arange(4)
TINY = TrainConfig(
    env=ID, scenario="yard", steps=1024, num_envs=8, n_steps=64, batch_size=256, width=16,
    checkpoint_every=512,
)  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return training.train(replace(TINY, out=str(folder), name="whole"), progress=False)


def test_a_planner_is_connected_and_measured():
    result = rollout("shortest", Shortest(), SCENARIO, SEEDS, ID, num_envs=2)
    assert (result.metrics["invalid_actions"] == 0).all()
    assert (result.metrics["finished"] == 24).all()
    assert 4 * 10 < len(result.times_s["jct"]) < 4 * 24  # those of the steady window
    first = rollout("first", FirstCome(), SCENARIO, SEEDS, ID)
    assert result.metrics["jct_mean_s"].mean() < first.metrics["jct_mean_s"].mean()
    np.testing.assert_array_equal(
        first.first["jobs"]["gpus"], result.first["jobs"]["gpus"]
    )  # the same jobs


def test_batches_do_not_matter_to_a_planner():
    one, many = (rollout("s", Shortest(), SCENARIO, SEEDS, ID, num_envs=n) for n in (1, 4))
    for key, values in one.metrics.items():
        np.testing.assert_array_equal(many.metrics[key], values, err_msg=key)


def test_report_has_the_columns_and_pictures_of_placement(tmp_path):
    pytest.importorskip("matplotlib")
    policies = {"shortest": Shortest(), "gang/fifo": FirstCome(), "gang/random": AnyServer()}
    printed = report(compare(policies, [SCENARIO], 3, ID, quiet=True), ["shortest"], tmp_path)
    heading = next(line for line in printed.splitlines() if line.startswith("policy"))
    for label in ("JCT s", "JWT s", "slowdown", "rho P95", "Jain", "utilisation %"):
        assert label in heading
    assert "TTFT" not in printed and "SLO" not in printed
    assert "equal sight" in printed and "equal sight" in (tmp_path / "results.md").read_text()
    saved = {path.name for path in tmp_path.iterdir()}
    assert saved == {
        *("results.csv", "results.md"),
        *("metrics-yard.png", "jct-yard.png", "gantt-yard.png"),
    }


def candidate(row, **values):
    for at, column in enumerate(LAYOUT.columns("candidates")):
        value = values.get(column.name, 0.0)
        row[at] = value if column.scale is None else value / (value + column.scale)


def test_lessons_of_a_plan_by_hand():
    """Rows: gang 5 on 1 node, on 2 nodes of 1 leaf, on 2 of 2 (closed); gang 9 on 1; wait; own."""
    view = make_view(
        [{"id": 5, "gpus": 4}, {"id": 9, "gpus": 1}], nodes=4, gpus_per_node=4, nodes_per_leaf=2
    )
    rows = np.zeros((6, len(LAYOUT.columns("candidates"))), np.float32)
    for at, (position, nodes, leafs) in enumerate([(0, 1, 1), (0, 2, 1), (0, 2, 2), (1, 1, 1)]):
        candidate(rows[at], is_place=1, position=position, nodes=nodes, leafs=leafs)
    candidate(rows[4], is_wait=1)
    observation = {"candidates": rows, "action_mask": np.array([1, 1, 0, 1, 1, 0])}

    def lesson(plan):
        return np.flatnonzero(rows_like(plan, view, observation, LAYOUT)).tolist()

    assert lesson(Plan(5, np.array([0, 1, 2, 3]))) == [0]
    assert lesson(Plan(5, np.array([0, 1, 4, 5]))) == [1]
    assert lesson(Plan(5, np.array([0, 1, 8, 9]))) == [0, 1]  # that shape is closed: any of it
    assert lesson(Plan(9, np.array([15]))) == [3]
    assert lesson(None) == [4]
    assert lesson(Plan(5, np.array([0, 1, 2, 3]), preempt=(2,))) == []


def test_lessons_of_other_policies_are_their_actions():
    env = gym.make_vec(ID, num_envs=3)
    observation, _ = env.reset(seed=0)
    policy = FirstCome()
    policy.reset(SCENARIO, 3)
    wanted = policy.lessons(observation, env)
    np.testing.assert_array_equal(wanted.argmax(axis=1), policy.act(observation))
    assert (wanted.sum(axis=1) == 1).all()


def test_imitation_reaches_a_planner():
    env = gym.make_vec(ID, num_envs=16, autoreset_mode="SameStep")
    spaces = env.single_observation_space, env.single_action_space
    network = CandidatePolicy(*spaces, lr_schedule=lambda _: 1e-3, width=16)
    agreement = imitate(network, Shortest(), env, 2400, learning_rate=1e-2, progress=False)
    assert agreement > 0.85
    assert not hasattr(env.unwrapped, "asked")  # decisions as they will be for the network
    policies = {"learned": LearnedPolicy(network), "any": AnyServer()}
    learned, anything = compare(policies, [SCENARIO], 16, ID, quiet=True)
    assert paired_interval(learned.metrics["reward"], anything.metrics["reward"]).low > 0.0


def test_a_trained_model_acts(run):
    curve = read_curve(run.folder / "learning_curve.csv")
    assert "jct_mean_s" in curve[-1]
    policy = LearnedPolicy.load(run.policy)
    assert set(policy.network.columns) == set(TABLES)
    learned = rollout("learned", policy, SCENARIO, SEEDS, ID)
    assert (learned.metrics["invalid_actions"] == 0).all()
    assert (learned.metrics["finished"] == 24).all()


@pytest.mark.filterwarnings("error")  # of a checkpoint that is passed over
def test_resume_ends_with_the_same_weights(run, tmp_path):
    expected = LearnedPolicy.load(run.policy).network.state_dict()
    folder = shutil.copytree(run.folder, tmp_path / "run")
    (folder / "model.zip").unlink()  # as if it had been stopped after its last checkpoint
    resumed = LearnedPolicy.load(training.resume(folder, progress=False).policy)
    for name, value in resumed.network.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), expected[name].numpy(), err_msg=name)


def test_the_learner_gets_the_keys_that_the_network_reads():
    env = training.make_env(TINY)
    observation = env.reset()
    assert set(observation) == set(env.observation_space.keys()) == set(KEYS)
    assert observation["candidates"].shape[:2] == (8, ROWS)
    assert "device_load" in env.unwrapped.env.single_observation_space.keys()
    assert env.unwrapped.env.single_observation_space["device_load"].shape == (NODES * PER_NODE,)


def test_defaults_follow_the_decisions():
    assert (TrainConfig().env, TrainConfig().scenario) == ("gpuyard/Routing-v0", "routing-default")
    config = TrainConfig.of(scenario="placement-optical")
    assert (config.env, config.steps) == ("gpuyard/Placement-v0", 700_000)
    with pytest.raises(ValueError, match=r"'no/Id-v0' is none of .*: say which scenario"):
        TrainConfig(env="no/Id-v0")
    config = TrainConfig.of(env="gpuyard/Placement-v0", seed=3)
    assert (config.scenario, config.seed) == ("placement-default", 3)
    for key, value in OWN_DEFAULTS[frozenset({"place"})].items():
        assert getattr(config, key) == value
    assert TrainConfig.of(env="gpuyard/Placement-v0", steps=7).steps == 7  # what is given counts
    assert TrainConfig.of() == TrainConfig()


class Refuses(Shortest):
    def plan(self, view):
        raise ValueError("made for other fabrics")


def test_optional_policies_that_refuse_a_scenario_are_left_out(capsys):
    policies = {"refuses": Refuses(), "first": FirstCome()}
    rollouts = compare(policies, [SCENARIO], 1, ID, quiet=True, optional=["refuses"])
    assert [r.policy for r in rollouts] == ["first"]
    assert capsys.readouterr().err == "yard: refuses left out: made for other fabrics\n"
    with pytest.raises(ValueError, match="made for other fabrics"):
        compare(policies, [SCENARIO], 1, ID, quiet=True)


def test_policies_of_other_decisions_are_refused_before_anything_runs(tmp_path):
    policies = {"first": FirstCome(), "router": make("routing/random")}
    said = "Random decides route, but scenario 'yard' asks for place"
    with pytest.raises(ValueError, match=said):
        compare(policies, [SCENARIO], 1, ID, quiet=True)
    left = compare(policies, [SCENARIO], 1, ID, quiet=True, optional=["router"])
    assert [r.policy for r in left] == ["first"]
    with pytest.raises(ValueError, match=said):
        rollout("router", policies["router"], SCENARIO, SEEDS, ID)
    with pytest.raises(ValueError, match=said):
        training.train(replace(TINY, out=str(tmp_path), teacher="routing/random"), progress=False)
    assert not list(tmp_path.iterdir())
    env = gym.make_vec(ID, num_envs=2, autoreset_mode="SameStep")
    with pytest.raises(ValueError, match=said):
        imitate(None, policies["router"], env, 2, progress=False)
    with pytest.raises(ValueError, match="'yard' asks for place, but this id is for route"):
        compare({}, [SCENARIO], 1, "gpuyard/Routing-v0", quiet=True)
