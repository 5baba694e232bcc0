"""Rollouts, metrics, tables, CSV, plots and the report, on a world with known answers."""

import gymnasium as gym
import numpy as np
import pytest
from agents_fake import SCENARIO, AnyServer, JoinShortest

from gpuyard.evaluation import tables
from gpuyard.evaluation.report import FIRST_SEED, compare, report
from gpuyard.evaluation.requests import request_latencies
from gpuyard.evaluation.rollout import Rollout, rollout

ID = "gpuyard-tests/Queue-v0"
SEEDS = np.arange(5, 12)


def test_each_seed_is_its_own_episode_whatever_the_batch():
    together = rollout("best", JoinShortest(), SCENARIO, SEEDS, ID, num_envs=7)
    for num_envs in (1, 3):
        other = rollout("best", JoinShortest(), SCENARIO, SEEDS, ID, num_envs=num_envs)
        for key, values in together.metrics.items():
            np.testing.assert_array_equal(other.metrics[key], values, err_msg=key)
        np.testing.assert_array_equal(other.times_s["ttft"], together.times_s["ttft"])


def test_against_a_plain_loop():
    env = gym.make_vec(ID, num_envs=1, autoreset_mode="Disabled")
    observation, _ = env.reset(seed=5)
    total, done, policy = 0.0, False, JoinShortest()
    policy.reset(SCENARIO, 1)
    while not done:
        observation, reward, terminated, _, info = env.step(policy.act(observation))
        total, done = total + reward[0], terminated[0]
    measured = rollout("best", JoinShortest(), SCENARIO, SEEDS, ID).metrics
    assert measured["reward"][0] == total
    table = env.results(0)["requests"]
    first, last = table["arrival_s"][[0, -1]]
    inside = (table["arrival_s"] >= first + 0.2 * (last - first)) & (
        table["arrival_s"] <= last - 0.1 * (last - first)
    )
    ttft = (table["first_token_s"] - table["arrival_s"])[inside]
    assert measured["ttft_mean_s"][0] == pytest.approx(ttft.mean())
    assert measured["ttft_mean_s"][0] != info["ttft_mean_s"][0]


def test_common_seeds_and_a_clear_winner():
    rollouts = compare({"best": JoinShortest(), "any": AnyServer()}, [SCENARIO], 6, ID, quiet=True)
    assert [r.policy for r in rollouts] == ["best", "any"]
    for r in rollouts:
        np.testing.assert_array_equal(r.seeds, FIRST_SEED + np.arange(6))
    gains = tables.comparison(rollouts, "best", ["reward", "ttft_mean_s"])
    assert gains[1][0] == "any"
    assert all(cell.startswith("+") and cell.endswith("*") for cell in gains[1][1:])


def test_latencies_by_hand():
    requests = {
        "arrival_s": np.array([0.0, 1.0, 2.0, 3.0]),
        "first_token_s": np.array([0.5, 1.25, 2.5, 3.5]),
        "finish_s": np.array([2.5, 1.25, 4.0, np.nan]),
        "output_tokens": np.array([5, 1, 4, 9]),
    }
    latencies = request_latencies(requests)  # NaN: one token has no TPOT; unfinished
    np.testing.assert_allclose(latencies["ttft"], [0.5, 0.25, 0.5, np.nan])
    np.testing.assert_allclose(latencies["tpot"], [0.5, np.nan, 0.5, np.nan])
    np.testing.assert_allclose(latencies["e2e"], [2.5, 0.25, 2.0, np.nan])


def made_up():
    seeds = np.arange(3)
    return [
        Rollout(
            name, "world", seeds,
            {"reward": reward + seeds * 0.1, "slo_attainment": np.full(3, 0.5) + 0.01 * seeds},
            {"ttft": np.linspace(0.01, 1.0, 50)},
        )
        for name, reward in (("worse", -2.0), ("better", -1.0))
    ]  # fmt: skip


def test_summary_is_sorted_scaled_and_has_intervals():
    table = tables.summary(made_up())
    assert table[0] == ["policy", "reward", "SLO %"]
    # rewards -1, -0.9, -0.8: mean -0.9, standard error 0.1/sqrt(3), t(0.975, 2) = 4.3027
    assert table[1] == ["better", "-0.90 ± 0.25", "51.0 ± 2.5"]
    assert table[2][0] == "worse"
    lines = tables.text(table).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert tables.markdown(table).splitlines()[:2] == [
        "| policy | reward | SLO % |",
        "| --- | ---: | ---: |",
    ]


def test_csv_round_trip(tmp_path):
    rollouts = made_up()
    tables.write_csv(rollouts, tmp_path / "r.csv")
    again = tables.read_csv(tmp_path / "r.csv")
    assert [(r.policy, r.scenario) for r in again] == [("worse", "world"), ("better", "world")]
    for one, other in zip(rollouts, again, strict=True):
        np.testing.assert_array_equal(one.seeds, other.seeds)
        assert one.metrics.keys() == other.metrics.keys()
        for key in one.metrics:
            np.testing.assert_array_equal(one.metrics[key], other.metrics[key])
    assert tables.summary(again) == tables.summary(rollouts)


def test_report_saves_tables_and_plots(tmp_path):
    matplotlib = pytest.importorskip("matplotlib.image")
    curve = [{"decisions": 100.0 * i, "reward": -3.0 + 0.1 * i} for i in range(1, 20)]
    printed = report(made_up(), ["better"], tmp_path, curve)
    assert "paired gain" in printed and "+1.00 ± 0.00*" in printed
    saved = {path.name for path in tmp_path.iterdir()}
    plots = {"metrics-world.png", "ttft-world.png", "learning_curve.png"}
    assert saved == plots | {"results.csv", "results.md"}
    for name in plots:
        picture = matplotlib.imread(tmp_path / name)
        assert picture.std() > 0.01  # something is drawn
