"""Services and jobs on one cluster: Gymnasium's contracts, and what must hold at every decision."""

from __future__ import annotations

import re
import tomllib
import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from cluster_worlds import Check, apart, make, play, service, small
from gymnasium.utils.env_checker import check_env

from gpuyard.envs.engine.serving.records import DRAINING, OFF, QUEUED, SERVING
from gpuyard.envs.parts.gangs import Gangs
from gpuyard.envs.rules import TRUNCATED
from gpuyard.envs.scenario import ScenarioError, from_dict

FAULTS = {"node_mtbf_h": 0.02, "repair_h": 0.005}  # a failure every 12 s among six nodes
PLAIN = make(small())
FAULTY = make(small(name="faulty", faults=FAULTS, scheduler={"preemption": True, "preempt_s": 2.0}))
HOLDING = make(
    small(name="holding", router={"hold_s": 0.1, "signal_interval_s": 0.2}, faults=FAULTS)
)
APART = make(small(apart("chat"), service("code"), name="apart"))
TIGHT = make(
    small(
        apart("chat", kv_blocks=140, handover="seeded", local_prefill_tokens=64),
        name="tight",
        faults=FAULTS,
        scheduler={"preemption": True, "preempt_s": 2.0},
    )
)
WHOLE = {"chunked_prefill": False, "prefix_caching": False, "kv_reservation": "contiguous"}
OLDER = make(
    small(
        service("chat", batching="dynamic", batch_wait_ms=200.0, **WHOLE),
        service("code", prefill_first=True, scheduling_policy="priority", **WHOLE),
        name="older",
        faults=FAULTS,
    )
)
NOTHING_LEAST = make(small(service("chat", min=0, initial=0), service("code"), name="from-none"))


def test_gymnasium_checker_passes_without_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*different from the unwrapped version")
        check_env(PLAIN, skip_render_check=True)


@pytest.mark.parametrize(
    "env",
    [PLAIN, FAULTY, HOLDING, APART, TIGHT, OLDER, NOTHING_LEAST],
    ids=lambda e: e.scenario.name,
)
@pytest.mark.parametrize("seed", range(10))
def test_nothing_is_lost(env, seed):
    info = play(env, seed, Check())
    assert info["terminated"]
    assert info["route.finished"] == env.scenario.workload.num_requests
    assert info["place.finished"] == 12
    requests = env.results()["requests"]
    assert (requests["finish_s"] >= requests["first_token_s"]).all()
    assert (requests["first_token_s"] >= requests["arrival_s"]).all()


@pytest.mark.parametrize("seed", range(3))
def test_only_what_is_feasible_is_offered_where_replicas_outnumber_places(seed):
    scenario = small(service("chat", max=12), name="many", scheduler={"window": 1})
    assert len(scenario.replicas) > Gangs(scenario, 1).part.sizes.candidates
    assert play(make(scenario), seed)["invalid_actions"] == 0


def test_failures_hand_requests_back():
    counts = [play(FAULTY, seed)["handed_back"] for seed in range(6)]
    assert sum(counts) > 0


def test_nodes_fail_when_training_has_ended_as_before():
    """Each of 6 nodes fails every 72 s; jobs are over in a minute, requests come for five."""
    work = {"preset": "chat", "num_requests": 60, "rate_per_s": 0.2, "max_tokens": 2048}
    faults = {"node_mtbf_h": 0.02, "repair_h": 0.002}
    env = make(small(service("chat", workload=work), name="after", faults=faults))
    devices = env._world.state["devices"][0]
    after: set[float] = set()

    def check(env: Any, observation: Any) -> None:
        assert devices["next_failure_s"] >= env._world.clock["now_s"][0], "none is passed over"
        if env._world.state["gangs"]["finished"][0] == 12:
            after.add(float(devices["next_failure_s"]))

    play(env, 0, check, keep=True)
    assert max(after) - min(after) > 150.0 and len(after) > 10


def test_an_infeasible_action_counts_once_on_its_side():
    """Weighted by 1 for routing and by 10 for placement, which counts those of scaling, too."""
    reward = {"route": {"invalid": 1.0}, "place": {"invalid": 10.0}}
    env = make(small(name="invalid", reward=reward))
    env.reset(seed=0)
    found: dict[int, float] = {}
    while len(found) < 3:
        kind = due(env)
        infeasible = np.flatnonzero(~env.action_masks())
        feasible = np.flatnonzero(env.action_masks())
        action = feasible[0] if kind in found else infeasible[-1]
        _, value, *_ = env.step(int(action))
        if kind not in found:
            found[kind] = float(value)
    assert found == {0: -1.0, 1: -10.0, 2: -10.0}
    assert env._info()["invalid_actions"] == 3


def test_rewards_add_up_to_the_metrics_behind_them():
    env = make(
        small(
            name="rewarded",
            reward={"route": {"waiting": 1.0}, "place": {"in_system": 0.5, "cost": 2.0}},
        )
    )
    info = play(env, 3)
    waited_s = info["ttft_mean_s"] * info["route.finished"]
    in_system_s = info["jct_mean_s"] * info["place.finished"]
    assert info["return"] == pytest.approx(-waited_s - 0.5 * in_system_s - 2.0 * info["cost"])


def test_vector_environment_equals_single_ones():
    n = 3
    vector = gym.make_vec("gpuyard/Cluster-v0", num_envs=n, scenario=FAULTY.scenario)
    singles = [make(FAULTY.scenario) for _ in range(n)]
    batch, _ = vector.reset(seed=11)
    rows = [env.reset(seed=11 + i)[0] for i, env in enumerate(singles)]
    rng = np.random.default_rng(0)
    for _ in range(300):
        for i, row in enumerate(rows):
            for key, value in row.items():
                assert np.array_equal(batch[key][i], value), key
        actions = [int(rng.choice(np.flatnonzero(row["action_mask"]))) for row in rows]
        batch, reward, terminated, truncated, _ = vector.step(np.array(actions))
        stepped = [env.step(action) for env, action in zip(singles, actions, strict=True)]
        assert reward.tolist() == [float(step[1]) for step in stepped]
        if (terminated | truncated).any():
            break
        rows = [step[0] for step in stepped]


def test_a_reset_in_the_same_step_leaves_nothing_of_the_last_episode():
    """One resets in the step that ends an episode, the other in the next: the same beginning."""
    made = {"num_envs": 2, "scenario": PLAIN.scenario, "max_episode_steps": 120}
    at_once = gym.make_vec("gpuyard/Cluster-v0", autoreset_mode="SameStep", **made)
    later = gym.make_vec("gpuyard/Cluster-v0", autoreset_mode="NextStep", **made)
    rng = np.random.default_rng(0)
    observation, _ = at_once.reset(seed=4)
    later.reset(seed=4)
    ended = np.zeros(2, bool)
    while not ended.all():
        actions = np.array([rng.choice(np.flatnonzero(row)) for row in observation["action_mask"]])
        observation, _, terminated, truncated, infos = at_once.step(actions)
        _, _, *ends, last = later.step(actions)
        ended = terminated | truncated
        assert (ended == (ends[0] | ends[1])).all()
    assert (last["serving"] > 0).all() and (infos["serving"] == 0).all()
    begun, _, _, _, last = later.step(actions)
    for key in begun:
        assert observation[key].tobytes() == begun[key].tobytes(), key
    assert infos["serving"].tolist() == last["serving"].tolist()


def test_a_state_put_back_goes_on_the_same_way():
    env = FAULTY
    env.reset(seed=5)
    for _ in range(60):
        env.step(int(np.flatnonzero(env.action_masks())[0]))
    state = env.get_state()

    def go_on() -> list[float]:
        seen = []
        for _ in range(60):
            observation, reward, *_ = env.step(int(np.flatnonzero(env.action_masks())[-1]))
            seen += [float(reward), float(observation["candidates"].sum())]
        return seen

    first = go_on()
    env.set_state(state)
    assert go_on() == first


def advance(env, until):
    """Route at random, start what can start, and keep replicas as they are, until then."""
    rng = np.random.default_rng(0)
    for _ in range(2000):
        if until(env):
            return
        feasible = np.flatnonzero(env.action_masks())
        env.step(int(rng.choice(feasible) if due(env) == 0 else feasible[0]))
    raise AssertionError("that moment never came")


def phases(env):
    return env._world.state["replicas"]["phase"][0].tolist()


def due(env) -> int:
    return int(env._world.clock["due"][0])


def test_a_replica_is_added_placed_and_starts_after_its_time():
    env = PLAIN
    env.reset(seed=1)
    advance(env, lambda env: due(env) == 2 and phases(env)[:3] == [SERVING, OFF, OFF])
    env.step(1)  # one more of the first role
    assert phases(env)[1] == QUEUED and due(env) == 1, "its gang is placed at once"
    placed_s = env._world.clock["now_s"][0]
    env.step(int(np.flatnonzero(env.action_masks())[0]))
    advance(env, lambda env: phases(env)[1] == SERVING)
    replica = env._world.state["replicas"][0, 1]
    assert replica["ready_s"] == pytest.approx(placed_s + 5.0)
    assert env._world.clock["now_s"][0] >= replica["ready_s"]


def test_a_replica_drains_before_it_ends():
    env = make(small(service("chat", initial=2, max=2), name="draining"))
    env.reset(seed=1)
    advance(env, lambda env: due(env) == 2 and env._world.state["replicas"]["in_flight"][0, 1] > 0)
    busy = env._world.state["replicas"]["in_flight"][0, 1]
    env.step(2)  # take one away
    assert phases(env) == [SERVING, DRAINING] and busy > 0
    sent = env._world.state["requests"]["replica"][0].tolist()
    advance(env, lambda env: phases(env)[1] == OFF)
    after = env._world.state["requests"]["replica"][0].tolist()
    new = [r for r, before in zip(after, sent, strict=True) if before < 0]
    assert 1 not in new, "it took no more requests"
    assert not (env._world.state["gpu_owner"][0] == 1).any(), "its devices are free"


def test_a_scaled_replica_is_taken_before_it_was_placed():
    env = PLAIN
    env.reset(seed=1)
    advance(env, lambda env: due(env) == 2)
    env.step(1)
    wait = int(np.flatnonzero(env.action_masks())[-1])
    env.step(wait)
    assert due(env) == 2 and phases(env)[1] == QUEUED
    env.step(2)
    assert phases(env)[1] == OFF
    assert (
        env._world.state["jobs"]["status"][0, : env._world.state["gangs"]["services"][0]] != 0
    ).all()


def test_a_picture_shows_the_cluster_and_the_replicas_that_there_are():
    env = PLAIN
    env.reset(seed=1)
    advance(env, lambda env: due(env) == 2)
    env.step(1)
    env.render_mode = "ansi"
    lines = env.render().splitlines()
    env.render_mode = None
    assert any(line.startswith("leaf 0") for line in lines)
    shown = [line for line in lines if "Llama-3-8B" in line]
    assert [line.split()[0] for line in shown] == ["0", "1", "3"]
    assert [line.endswith("waits for GPUs") for line in shown] == [False, True, False]


def test_pictures_are_stacked_with_white_beside_the_narrower():
    from gpuyard.envs.rendering.canvas import stacked

    wide, narrow = np.zeros((2, 4, 3), np.uint8), np.zeros((1, 3, 3), np.uint8)
    image = stacked([wide, narrow])
    assert image.shape == (3, 4, 3) and image.sum() == 3 * 255 and (image[2, 3] == 255).all()


def test_requests_that_are_given_no_replica_end_the_episode_as_stalled():
    env = make(small(service("chat", min=0, initial=0), service("code"), name="abandoned"))
    info = play(env, 0, keep=True)
    assert not info["terminated"] and info["parked"] == 60
    assert TRUNCATED[int(info["truncated_reason"])] == "stalled"
    assert info["route.finished"] == 60 and info["place.finished"] == 12


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"min": 3, "max": 2}, "min <= initial <= max"),
        ({"initial": 5, "max": 3}, "min <= initial <= max"),
        ({"gpu": "L40S"}, "in no pool"),
        ({"tp": 8, "required": "node"}, "never fits"),
        ({"min": 30, "max": 30}, "never fits"),
        ({"required": "room"}, "must be one of"),
        ({"startup_s": 1e5}, "startup_s = 100000.0"),
        ({"priority": 2.0}, "must lie in"),
        ({"replicas": 3}, "is unknown"),
        ({"workload": {"preset": "chat", "rate": 3}}, "rate"),
    ],
)
def test_bad_deployments_are_refused(changes, says):
    with pytest.raises(ScenarioError, match=says) as error:
        small(service("chat", **changes))
    assert "deployments" in str(error.value)


def test_storage_from_which_no_replica_starts_in_a_day_is_refused():
    slow = {key: value for key, value in service("chat").items() if key != "startup_s"}
    with pytest.raises(ScenarioError, match=r"storage_gbps = 1e-09 lets a replica start after"):
        small({**slow, "storage_gbps": 1e-9})


def test_the_scenario_on_the_page_is_one():
    page = (Path(__file__).parents[1] / "docs" / "cluster.md").read_text()
    (example,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    scenario = from_dict(tomllib.loads(example))
    assert scenario.decisions == {"route", "place", "scale"}


def test_deployments_have_names_of_their_own():
    for names in (("", "b"), ("a", "a")):
        with pytest.raises(ScenarioError, match="a name of its own"):
            small(*(service(name) for name in names))


def test_what_stands_beside_deployments_is_refused():
    with pytest.raises(ScenarioError, match="workload of its own"):
        small(workload={"preset": "chat"})
    bare = service("chat")
    del bare["workload"]
    with pytest.raises(ScenarioError, match="workload is missing"):
        small(bare)
