"""The environments behind Gymnasium's and SB3's contracts."""

from __future__ import annotations

import subprocess
import sys
import warnings
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers import FlattenObservation

from gpuyard.envs.cluster_env import ClusterEnv
from gpuyard.envs.engine.decide.columns import INFO
from gpuyard.envs.observation import Layout
from gpuyard.envs.scenario import from_dict, load
from gpuyard.ids import IDS, check_decisions, default_scenario, id_for

SMALL = {
    "replicas": [
        {"gpu": "A100-80", "model": "Llama-3-8B", "count": 2, "max_num_batched_tokens": 2048},
        {"gpu": "L40S", "model": "Llama-3-8B", "max_num_seqs": 16, "kv_blocks": 700},
    ],
    "workload": {"preset": "chat", "num_requests": 40, "rate_per_s": 15.0, "max_tokens": 4096},
}


def small(**changes):
    return from_dict({**SMALL, **changes}, name="small")


def random_action(rng: np.random.Generator, mask: np.ndarray) -> int:
    return int(rng.choice(np.flatnonzero(mask)))


@pytest.mark.parametrize("flatten", [False, True])
def test_gymnasium_checker_passes_without_warnings(flatten: bool) -> None:
    env = gym.make("gpuyard/Routing-v0", scenario=small(), render_mode="ansi").unwrapped
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*different from the unwrapped version")
        check_env(FlattenObservation(env) if flatten else env, skip_render_check=True)


@pytest.mark.parametrize("flatten", [False, True])
def test_sb3_checker_passes_without_warnings(flatten: bool) -> None:
    """But for its advice to use an own policy, which it gives for any 2-D Box, and we have one."""
    sb3 = pytest.importorskip("stable_baselines3.common.env_checker")
    env = gym.make("gpuyard/Routing-v0", scenario=small()).unwrapped
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if not flatten:
            warnings.filterwarnings("ignore", message=".*unconventional shape")
        sb3.check_env(FlattenObservation(env) if flatten else env)


@pytest.mark.parametrize("seed", [0, 7])
def test_reset_is_deterministic_and_seeds_differ(seed: int) -> None:
    env = gym.make("gpuyard/Routing-v0", scenario=small())
    first, info = env.reset(seed=seed)
    again, info_again = env.reset(seed=seed)
    other, _ = env.reset(seed=seed + 1)
    assert info == info_again
    assert all(np.array_equal(first[key], again[key]) for key in first)
    assert any(not np.array_equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize("hold_s", [0.0, 0.05])
def test_vector_environment_equals_single_ones(hold_s: float) -> None:
    scenario = small(router={"hold_s": hold_s, "hold_limit_s": 0.5, "signal_interval_s": 0.2})
    n = 3
    vector = gym.make_vec("gpuyard/Routing-v0", num_envs=n, scenario=scenario)
    singles = [gym.make("gpuyard/Routing-v0", scenario=scenario) for _ in range(n)]
    batch, batch_info = vector.reset(seed=11)
    rows = [env.reset(seed=11 + i) for i, env in enumerate(singles)]
    rng = np.random.default_rng(0)
    ended = np.zeros(n, bool)
    for _ in range(150):
        for i in range(n):
            for key in batch:
                assert batch[key][i].tobytes() == rows[i][0][key].tobytes(), key
            assert {k: batch_info[k][i] for k in INFO["route"]} == rows[i][1]
        actions = np.array([random_action(rng, mask) for mask in batch["action_mask"]])
        batch, rewards, terminated, truncated, batch_info = vector.step(actions)
        for i, env in enumerate(singles):
            if ended[i]:
                rows[i] = env.reset()
                assert rewards[i] == 0.0 and not terminated[i]
                continue
            obs, reward, done, _, info = env.step(actions[i])
            rows[i] = (obs, info)
            assert reward == rewards[i] and done == terminated[i]
        ended = terminated | truncated
        assert not truncated.any()


def test_same_step_hands_over_the_last_observation() -> None:
    vector = gym.make_vec(
        "gpuyard/Routing-v0", num_envs=2, scenario=small(), autoreset_mode="SameStep"
    )
    assert vector.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    obs, _ = vector.reset(seed=3)
    rng = np.random.default_rng(0)
    episodes = 0
    for _ in range(90):
        actions = np.array([random_action(rng, mask) for mask in obs["action_mask"]])
        obs, _, terminated, _, infos = vector.step(actions)
        assert ("final_obs" in infos) == terminated.any()
        for i in np.flatnonzero(terminated):
            episodes += 1
            assert infos["_final_obs"][i] and infos["_final_info"][i]
            assert infos["final_info"]["finished"][i] == 40
            assert infos["finished"][i] == 0 and infos["arrived"][i] == 1
            assert infos["final_obs"][i]["cluster"][0] == 0.0  # nothing left to decide
            assert obs["cluster"][i][0] == 1.0
    assert episodes == 4


def test_disabled_mode_waits_for_the_mask() -> None:
    vector = gym.make_vec(
        "gpuyard/Routing-v0", num_envs=2, scenario=small(), autoreset_mode="Disabled"
    )
    obs, _ = vector.reset(seed=3)
    for _ in range(45):
        obs, rewards, terminated, _, infos = vector.step(obs["action_mask"].argmax(axis=1))
    assert terminated.all() and (rewards == 0).all() and (infos["finished"] == 40).all()
    options = {"reset_mask": np.array([False, True])}
    obs, infos = vector.reset(options=options)
    assert "reset_mask" in options
    assert infos["finished"].tolist() == [40, 0]
    _, _, terminated, _, infos = vector.step(np.zeros(2, np.int64))
    assert terminated.tolist() == [True, False]


def test_max_episode_steps_truncates() -> None:
    vector = gym.make_vec("gpuyard/Routing-v0", num_envs=2, scenario=small(), max_episode_steps=5)
    vector.reset(seed=0)
    flags = [vector.step(np.zeros(2, np.int64))[3].all() for _ in range(12)]
    assert np.flatnonzero(flags).tolist() == [4, 10]  # one dead step between the episodes


def test_observations_are_fresh_arrays() -> None:
    env = gym.make("gpuyard/Routing-v0", scenario=small())
    first, _ = env.reset(seed=0)
    copies = {key: value.copy() for key, value in first.items()}
    second, *_ = env.step(0)
    for key in first:
        assert not np.shares_memory(first[key], second[key])
        assert np.array_equal(first[key], copies[key])


def test_state_can_be_saved_and_restored() -> None:
    env = gym.make("gpuyard/Routing-v0", scenario=small()).unwrapped
    rng = np.random.default_rng(0)
    obs, _ = env.reset(seed=5)
    for _ in range(20):
        obs, *_ = env.step(random_action(rng, obs["action_mask"]))
    state = env.get_state()
    actions = rng.integers(0, 3, 60)

    def play():
        out = []
        for action in actions:
            obs, reward, done, _, info = env.step(action)
            out.append((obs["candidates"].tobytes(), reward, done, tuple(info.values())))
            if done:
                obs, _ = env.reset()
                out.append(obs["candidates"].tobytes())
        return out

    first = play()
    obs, info = env.set_state(state)
    assert info["arrived"] == 21
    assert play() == first


def test_an_infeasible_action_is_counted_and_replaced() -> None:
    env = gym.make("gpuyard/Routing-v0", scenario=small()).unwrapped
    env.reset(seed=0)
    for action in (99, -1):
        _, _, _, _, info = env.step(action)
    assert info["invalid_actions"] == 2
    assert sorted(env.results()["requests"]["replica"][:2]) == [
        0,
        1,
    ]  # fewest in flight, lowest index first


@pytest.mark.parametrize(
    ("term", "metric"),
    [
        ("waiting", lambda t, i: -(t["first_token_s"] - t["arrival_s"]).sum()),
        ("in_system", lambda t, i: -(t["finish_s"] - t["arrival_s"]).sum()),
        ("tokens", lambda t, i: t["output_tokens"].sum()),
        ("slo", lambda t, i: i["slo_attainment"] * 40),
        ("preemptions", lambda t, i: -t["preemptions"].sum()),
        ("invalid", lambda t, i: -i["invalid_actions"]),
    ],
)
def test_rewards_add_up_to_the_metric(term: str, metric) -> None:
    env = gym.make("gpuyard/Routing-v0", scenario=small(reward={term: 1.0})).unwrapped
    for seed in range(3):
        env.reset(seed=seed)
        rng = np.random.default_rng(seed)
        total, done = 0.0, False
        while not done:
            _, reward, done, _, info = env.step(int(rng.integers(-1, 3)))
            total += reward
        assert total == pytest.approx(metric(env.results()["requests"], info), rel=1e-9, abs=1e-9)


def test_metrics_in_info_match_the_table_of_requests() -> None:
    env = gym.make("gpuyard/Routing-v0", scenario=small()).unwrapped
    obs, _ = env.reset(seed=2)
    rng = np.random.default_rng(2)
    done = False
    while not done:
        obs, _, done, _, info = env.step(random_action(rng, obs["action_mask"]))
    table = env.results()["requests"]
    ttft = table["first_token_s"] - table["arrival_s"]
    e2e = table["finish_s"] - table["arrival_s"]
    many = table["output_tokens"] > 1
    tpot = np.zeros(40)
    tpot[many] = (e2e - ttft)[many] / (table["output_tokens"][many] - 1)
    met = (ttft <= 0.5) & (tpot <= 0.05)
    assert info["time_s"] == table["finish_s"].max()
    assert info["ttft_mean_s"] == pytest.approx(ttft.mean())
    assert info["tpot_mean_s"] == pytest.approx(tpot[many].mean())
    assert info["e2e_mean_s"] == pytest.approx(e2e.mean())
    assert info["slo_attainment"] == pytest.approx(met.mean())
    assert info["goodput"] == pytest.approx(met.sum() / info["time_s"])
    hits = table["cached_tokens"].sum() / table["prompt_tokens"].sum()
    assert info["prefix_hit_rate"] == pytest.approx(hits)


@pytest.mark.parametrize("make", [gym.make, gym.make_vec])
def test_an_id_refuses_scenarios_of_other_decisions(make) -> None:
    said = (
        "scenario 'placement-default' asks for place, but this id is for route: "
        "use gpuyard/Placement-v0"
    )
    with pytest.raises(ValueError, match=said):
        make("gpuyard/Routing-v0", scenario="placement-default")
    with pytest.raises(ValueError, match=r"'small' asks for route, .* use gpuyard/Routing-v0"):
        make("gpuyard/Placement-v0", scenario=small())
    env = make("gpuyard/Routing-v0", scenario=small())
    assert env.unwrapped.layout == env.unwrapped.scenario.layout == Layout({"route"})
    assert ClusterEnv("placement-default").layout == Layout({"place"})  # the class takes any


@pytest.mark.parametrize("env_id", IDS)
def test_an_id_fits_its_default_scenario(env_id: str) -> None:
    scenario = load(default_scenario(env_id))
    assert id_for(scenario) == env_id
    check_decisions(scenario, IDS[env_id].decisions)


def test_decisions_without_an_id() -> None:
    joint = SimpleNamespace(name="joint", decisions=frozenset({"place", "scale"}))
    with pytest.raises(ValueError, match="'joint' asks for place and scale: no regis"):
        id_for(joint)
    with pytest.raises(ValueError, match="this id is for place: use the class ClusterEnv itself"):
        check_decisions(joint, {"place"})
    with pytest.raises(ValueError, match="'gpuyard/Cluster-v9' is none of gpuyard/Routing-v0, "):
        default_scenario("gpuyard/Cluster-v9")


def test_rendering() -> None:
    env = gym.make("gpuyard/Routing-v0", scenario=small(), render_mode="ansi")
    env.reset(seed=0)
    env.step(2)
    text = env.render()
    assert "L40S" in text and "running   1/16" in text
    pytest.importorskip("matplotlib")
    env = gym.make("gpuyard/Routing-v0", scenario=small(), render_mode="rgb_array")
    env.reset(seed=0)
    image = env.render()
    assert image.dtype == np.uint8 and image.ndim == 3 and image.std() > 0


def test_the_same_seed_gives_the_same_bytes_in_another_process() -> None:
    code = (
        "import gymnasium as gym, gpuyard, hashlib, numpy as np\n"
        "env = gym.make('gpuyard/Routing-v0')\n"
        "obs, _ = env.reset(seed=0)\n"
        "digest = hashlib.sha256()\n"
        "for k in range(100):\n"
        "    obs, reward, *_ = env.step(k % 8)\n"
        "    digest.update(b''.join(v.tobytes() for v in obs.values()) + repr(reward).encode())\n"
        "print(digest.hexdigest())\n"
    )
    runs = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    }
    assert len(runs) == 1


def test_importing_the_package_stays_light() -> None:
    code = (
        "import sys, gpuyard\n"
        "heavy = {'torch', 'stable_baselines3', 'numba', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "import gymnasium as gym\n"
        "gym.make('gpuyard/Routing-v0').reset(seed=0)\n"
        "heavy = {'torch', 'stable_baselines3', 'matplotlib', 'pandas'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "assert 'envs' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
