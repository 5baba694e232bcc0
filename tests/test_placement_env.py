"""The placement environment: its interface, its metrics and what it refuses."""

from __future__ import annotations

import pickle

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from placement_worlds import PROFILES, make, play, random_action, small

from gpuyard.envs.cluster_view import Plan
from gpuyard.envs.observation import read
from gpuyard.envs.reward import terms
from gpuyard.envs.scenario import ScenarioError, from_dict

SMALL = small()


def wait_row(env) -> int:
    return env.action_space.n - 2


def own_row(env) -> int:
    return env.action_space.n - 1


def test_gymnasium_checker_finds_nothing(recwarn):
    env = gym.make("gpuyard/Placement-v0", scenario=SMALL)
    check_env(env.unwrapped, skip_render_check=True)
    assert not [w for w in recwarn if "gymnasium" in str(w.filename).lower()]


def test_shapes_and_bounds():
    env = make(SMALL)
    rng = np.random.default_rng(0)
    observation, info = env.reset(seed=0)
    assert env.action_space.n == 8 * 6 + 2
    assert observation["device_memory"].shape == (64,)
    assert observation["link_load"].shape == (2 * 16 + 2 * 4 * 8,)
    done = False
    while not done:
        assert env.observation_space.contains(observation)
        action = random_action(env, rng)
        observation, _, done, truncated, new_info = env.step(action)
        assert not truncated and new_info.keys() == info.keys()
        assert new_info["time_s"] >= info["time_s"]
        info = new_info
    assert info["finished"] == 40


def test_reading_a_column_of_the_other_world_fails():
    observation, _ = make(SMALL).reset(seed=0)
    with pytest.raises(KeyError, match=r"no column 'kv_usage'.*layout"):
        read(observation, "candidates", "kv_usage")


def test_first_candidate_describes_the_oldest_gang():
    env = make(SMALL)
    observation, _ = env.reset(seed=3)
    gang = env.view().pending[0]
    assert read(observation, "candidates", "gpus")[0] == pytest.approx(gang["gpus"], rel=1e-5)
    assert read(observation, "queue", "estimate_s")[0] == pytest.approx(gang["estimate_s"], 1e-3)
    assert read(observation, "candidates", "is_place")[0] == 1
    assert read(observation, "candidates", "is_wait")[wait_row(env)] == 1


def test_vector_and_single_environments_agree_byte_for_byte():
    worlds = gym.make_vec(
        "gpuyard/Placement-v0", num_envs=3, scenario=SMALL, autoreset_mode="Disabled"
    )
    batch, _ = worlds.reset(seed=5)
    singles = [make(SMALL) for _ in range(3)]
    rows = [env.reset(seed=5 + i)[0] for i, env in enumerate(singles)]
    rng = np.random.default_rng(0)
    for _ in range(60):
        for i, row in enumerate(rows):
            for key, value in row.items():
                assert value.tobytes() == batch[key][i].tobytes(), key
        actions = np.array([random_action(env, rng) for env in singles])
        batch, rewards, terminated, _, _ = worlds.step(actions)
        steps = [env.step(action) for env, action in zip(singles, actions, strict=True)]
        rows = [step[0] for step in steps]
        assert [float(step[1]) for step in steps] == rewards.tolist()
        if terminated.any():
            break


def test_same_seed_same_episode():
    assert play(make(SMALL), 7) == play(make(SMALL), 7)


@pytest.mark.parametrize("term", ["waiting", "in_system", "finished", "utilisation", "slowdown"])
def test_rewards_add_up_to_the_metric(term):
    env = make(small(reward={term: 1.0}))
    total, info = play(env, 1)
    table = env.results()["jobs"]
    jct = table["finish_s"] - table["arrival_s"]
    expected = {
        "waiting": -table["waited_s"].sum(),
        "in_system": -jct.sum(),
        "finished": 40.0,
        "utilisation": info["utilisation"] * info["time_s"],
        "slowdown": -np.maximum(jct / np.maximum(table["duration_s"], 10.0), 1.0).sum(),
    }
    assert total == pytest.approx(expected[term], rel=1e-9)


def test_metrics_follow_from_the_table_of_jobs():
    env = make(SMALL)
    _, info = play(env, 2)
    table = env.results()["jobs"]
    assert info["jct_mean_s"] == pytest.approx((table["finish_s"] - table["arrival_s"]).mean())
    assert info["jrt_mean_s"] == pytest.approx(table["ran_s"].mean())
    assert info["jwt_mean_s"] == pytest.approx(table["waited_s"].mean())
    assert info["contention_mean"] == pytest.approx((table["ran_s"] / table["ideal_run_s"]).mean())
    busy = (table["ran_s"] * table["gpus"]).sum() / (64 * info["time_s"])
    assert info["utilisation"] == pytest.approx(busy, rel=1e-9)
    price = (table["ran_s"] * table["gpus"]).sum() / 3600 * 1.0  # V100-32: $1 an hour
    assert info["cost"] == pytest.approx(price, rel=1e-6)
    assert (table["waited_s"] > -1e-6).all() and (table["ran_s"] > 0).all()


def test_one_job_alone_runs_as_long_as_it_says():
    env = make(small(jobs={"num_jobs": 1, "max_gpus": 4}))
    play(env, 0)
    table = env.results()["jobs"]
    assert table["ran_s"][0] == pytest.approx(table["duration_s"][0], rel=1e-9)


def test_jobs_of_other_message_sizes_alone_run_as_long_as_they_say():
    """Those of the vClos study draw 0.5 to 1.5 of the mean size; nobody meets within a node."""
    jobs = {"preset": "vclos", "num_jobs": 60, "max_gpus": 4, "interarrival_s": 600.0}
    cluster = {"pools": [{"gpu": "V100-32", "nodes": 4, "gpus_per_node": 4}]}
    env = make(from_dict({"cluster": cluster, "jobs": jobs}))
    play(env, 0)
    table, scale = env.results()["jobs"], env._world.state["jobs"]["scale"][0]
    np.testing.assert_allclose(table["ran_s"], table["duration_s"], rtol=1e-9)
    assert len(np.unique(scale / table["duration_s"])) == 60  # each with messages of its own


def test_an_infeasible_action_is_counted_and_replaced_by_waiting():
    env = make(SMALL)
    env.reset(seed=0)
    infeasible = int(np.flatnonzero(~env.action_masks())[0])
    twin = make(SMALL)
    twin.reset(seed=0)
    observation, _, _, _, info = env.step(infeasible)
    other, _, _, _, waited = twin.step(wait_row(twin))
    assert info["invalid_actions"] == 1 and waited["invalid_actions"] == 0
    for key, value in observation.items():
        assert value.tobytes() == other[key].tobytes()


def test_state_can_be_put_back_and_pickled():
    env = make(SMALL)
    rng = np.random.default_rng(0)
    env.reset(seed=1)
    for _ in range(15):
        env.step(random_action(env, rng))
    state = pickle.loads(pickle.dumps(env.get_state()))
    actions = []
    done = False
    while not done:
        actions.append(random_action(env, rng))
        _, _, done, _, info = env.step(actions[-1])
    env.set_state(state)
    for action in actions:
        _, _, _, _, again = env.step(action)
    assert again == info


def test_aggregated_observation_is_per_leaf():
    env = make(small(observation={"aggregate": True}))
    observation, _ = env.reset(seed=0)
    assert observation["device_load"].shape == observation["link_load"].shape == (4,)
    play(env, 0, lambda env: None)


# -- plans of one's own --------------------------------------------------------------------------


def first_gang(env, seed: int = 0):
    env.reset(seed=seed)
    return env.view().pending[0]


def test_a_plan_is_carried_out_rank_by_rank():
    env = make(SMALL)
    gang = first_gang(env)
    gpus = np.arange(gang["gpus"])[::-1]
    env.propose(Plan(int(gang["id"]), gpus))
    env.step(own_row(env))
    assert (env.view().gpu_job[gpus] == gang["id"]).all()
    assert (env.view().gpu_job == gang["id"]).sum() == gang["gpus"]


@pytest.mark.parametrize(
    "change",
    [
        lambda gpus: np.concatenate([gpus[:-1], gpus[:1]]),  # a GPU twice
        lambda gpus: gpus + 64,  # GPUs that do not exist
        lambda gpus: gpus - 64,
    ],
)
def test_an_impossible_plan_is_refused(change):
    env = make(small(jobs={"profiles": {"VGG-16": 1.0}}))
    for seed in range(20):
        gang = first_gang(env, seed)
        if gang["gpus"] > 1:
            break
    env.propose(Plan(int(gang["id"]), change(np.arange(gang["gpus"]))))
    _, _, _, _, info = env.step(own_row(env))
    assert info["invalid_actions"] == 1
    assert not (env.view().gpu_job == gang["id"]).any() or info["time_s"] > 0


def test_an_action_without_a_plan_is_refused():
    env = make(SMALL)
    env.reset(seed=0)
    _, _, _, _, info = env.step(own_row(env))
    assert info["invalid_actions"] == 1


def test_a_plan_of_the_wrong_size_is_an_error():
    env = make(SMALL)
    gang = first_gang(env)
    with pytest.raises(ValueError, match="ranks"):
        env.propose(Plan(int(gang["id"]), np.arange(gang["gpus"] + 1)))


def test_reserved_uplinks_belong_to_the_gang_until_it_ends():
    env = make(small(jobs={"num_jobs": 1, "profiles": {"VGG-16": 1.0}}))
    for seed in range(200):
        gang = first_gang(env, seed)
        if gang["gpus"] == 8:
            break
    gpus = np.array([0, 1, 2, 3, 16, 17, 18, 19])  # two leafs
    uplinks = np.tile(np.arange(4), 2)
    env.propose(Plan(int(gang["id"]), gpus, uplinks))
    state = env.get_state()
    _, _, done, _, info = env.step(own_row(env))
    assert done and info["invalid_actions"] == 0
    assert info["contention_mean"] == pytest.approx(1.0)
    env.set_state(state)
    env.propose(Plan(int(gang["id"]), gpus, np.zeros(8, int)))  # one uplink for all
    _, _, _, _, info = env.step(own_row(env))
    assert info["invalid_actions"] == 1


def test_preemption_sends_a_gang_back_to_its_place_and_costs_time():
    env = make(small(scheduler={"preemption": True, "preempt_s": 100.0}, jobs={"max_gpus": 4}))
    env.reset(seed=0)
    env.step(0)
    while not len(env.view().running) or not len(env.view().pending):
        env.step(wait_row(env))
    victim = int(env.view().running[0]["id"])
    pending = int(env.view().pending[0]["id"])
    env.propose(Plan(-1, preempt=(victim,)))
    _, _, _, _, info = env.step(own_row(env))
    assert info["preemptions"] == 1 and info["invalid_actions"] == 0
    ids = env.view().pending["id"].tolist()
    assert ids == sorted([victim, *ids[1:], pending][: len(ids)]) and victim in ids
    assert env.view().pending[ids.index(victim)]["blocked"] == 1
    env.propose(Plan(-1, preempt=(victim,)))
    _, _, _, _, info = env.step(own_row(env))
    assert info["invalid_actions"] == 1


def test_every_job_ends_although_nodes_fail():
    env = make(small(faults={"node_mtbf_h": 5.0, "repair_h": 0.5}))
    _, info = play(env, 3)
    table = env.results()["jobs"]
    assert info["failures"] > 0 and info["finished"] == 40
    assert np.isfinite(table["finish_s"]).all()
    jct = table["finish_s"] - table["arrival_s"]
    assert np.allclose(jct, table["waited_s"] + table["ran_s"])


def test_stragglers_slow_the_gangs_on_them():
    slow = make(small(faults={"straggler_share": 1.0, "straggler_speed": 0.5}))
    slow.reset(seed=0)
    play(slow, 0)
    table = slow.results()["jobs"]
    single = table["gpus"] == 1
    assert np.allclose(table["ran_s"][single], 2 * table["duration_s"][single])


def test_a_quota_holds():
    tenants = [{"name": "a", "quota": 32, "share": 0.5}, {"name": "b", "share": 0.5}]
    env = make(small(jobs={"tenants": tenants}))
    most = []
    play(env, 0, lambda env: most.append(env.view().queues["held"][0]))
    assert 0 < max(most) <= 32


def test_required_levels_hold():
    env = make(small(jobs={"required": "leaf", "max_gpus": 16}))
    play(env, 0)
    assert (env.results()["jobs"]["leafs"] == 1).all()


# -- bad scenarios -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"jobs": {"max_gpus": 128}}, "64"),
        ({"jobs": {"profiles": {"GPT-7": 1.0}}}, "GPT-7"),
        ({"network": {"fidelity": "exact"}}, "network.fidelity.*fluid"),
        ({"network": {"routing": "best"}}, "network.routing.*ecmp"),
        ({"network": {"queue_pairs": 0}}, "network.queue_pairs = 0"),
        ({"scheduler": {"window": 0}}, "scheduler.window = 0"),
        ({"scheduler": {"preemption": 1}}, "scheduler.preemption"),
        ({"faults": {"straggler_speed": 0.0}}, "faults.straggler_speed"),
        ({"reward": {"jct": 1.0}}, "reward.jct.*in_system"),
        ({"cluster": {"fabric": {"spines": 0}}}, "spines"),
        ({"cluster": {"preset": "moon"}}, "moon"),
    ],
)
def test_bad_scenarios_say_what_is_wrong(tables, message):
    with pytest.raises(ScenarioError, match=message):
        small(**tables)


def test_terms_are_documented():
    from gpuyard.envs import reward

    for term in terms("place"):
        assert f"`{term}`" in str(reward.__doc__)


def test_routing_scenarios_have_no_plans():
    env = gym.make("gpuyard/Routing-v0").unwrapped
    with pytest.raises(TypeError, match="no gangs"):
        env.view()


def test_a_scenario_with_a_cluster_is_one_of_placement():
    scenario = from_dict({"cluster": {"preset": "v100-32"}, "jobs": {"profiles": PROFILES,
                          "max_gpus": 16, "num_jobs": 4}})  # fmt: skip
    assert scenario.cluster.num_gpus == 32
