"""What must hold at every decision of every world, whatever the router does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from engine_worlds import WINDOWED, cached_here, random_stream
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import gpuyard  # noqa: F401
from gpuyard.envs.cluster_env import ClusterEnv
from gpuyard.envs.perf.serving.kv_groups import kv_groups
from gpuyard.envs.scenario import Scenario, Workload, from_dict
from gpuyard.envs.workload.requests.presets import PRESETS
from gpuyard.envs.world import World

FEW = settings(
    max_examples=80,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

replicas = st.fixed_dictionaries(
    {
        "gpu": st.sampled_from(["A100-80", "L40S", "H100-SXM"]),
        "model": st.sampled_from(["Llama-3-8B", "Llama-3-8B", "Windowed"]),
        "engine": st.sampled_from(["vllm-0.12", "vllm-0.15", "vllm-0.19", "sglang"]),
        "frontend_ms": st.sampled_from([0.0, 8.0, 200.0]),
        "tp": st.sampled_from([1, 2]),
        "max_num_seqs": st.integers(1, 12),
        "max_num_batched_tokens": st.integers(13, 600),
        "kv_blocks": st.integers(43, 160),
        "block_size": st.just(16),
    }
)
worlds = st.fixed_dictionaries(
    {
        "replicas": st.lists(replicas, min_size=1, max_size=4),
        "router": st.fixed_dictionaries(
            {
                "signal_interval_s": st.sampled_from([0.0, 0.0, 0.05, 1.0]),
                "hold_s": st.sampled_from([0.0, 0.02, 0.3]),
                "hold_limit_s": st.just(0.5),
            }
        ),
        "estimates": st.fixed_dictionaries(
            {
                "output": st.sampled_from(["noisy", "mean", "oracle"]),
                "sigma": st.sampled_from([0.0, 0.1, 0.5, 1.3, 3.0]),
            }
        ),
        "observation": st.fixed_dictionaries({"queue_rows": st.integers(1, 5)}),
        "reward": st.fixed_dictionaries(
            {"waiting": st.just(1.0), "slo": st.just(1.0), "preemptions": st.just(0.1)}
        ),
    }
)


@st.composite
def scenarios(draw: st.DrawFn, rate_factor: float = 1.0) -> Scenario:
    """Small clusters and random requests of up to 600 tokens, with prefixes and sessions."""
    table = {**draw(worlds), "workload": {"max_tokens": 600}, "models": {"Windowed": WINDOWED}}
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    unit = draw(st.sampled_from([0, 16, 32, 64]))
    n = draw(st.integers(1, 50))
    stream = random_stream(rng, n, unit)
    stream = replace(
        stream,
        arrival_s=stream.arrival_s / rate_factor,
        session=rng.integers(-1, 6, n).astype(np.int32),
        priority=rng.random(n).astype(np.float32),
    )
    return replace(from_dict(table), workload=Workload(stream, n))


def make(scenario: Scenario) -> ClusterEnv:
    env = gym.make("gpuyard/Routing-v0", scenario=scenario).unwrapped
    assert isinstance(env, ClusterEnv)
    return env


def blocks_are_conserved(world: World, r: int) -> None:
    """Free and held blocks add up, by walking the free queue and the running batch."""
    replica, spec = world.state["replicas"][0, r], world.shared["replica_specs"][r]
    entries = world.state["prefix_entries"][0]
    mine = cached_here(world, r)
    free, before, at = int(replica["tail_blocks"]), -1, int(replica["lru_head"])
    queued = set()
    while at >= 0:
        assert at not in queued, "the free queue runs in a circle"
        queued.add(at)
        assert entries[at]["before"] == before
        assert at in mine and entries[at]["holders"] == 0, "a queued unit is in use or not cached"
        assert entries[at]["lead"] >= 0
        free += int(entries[at]["lead"]) + int(spec["unit_blocks"])
        before, at = at, int(entries[at]["after"])
    assert replica["lru_tail"] == before
    assert replica["tail_blocks"] >= 0
    requests, ids = world.state["requests"][0], world.state["prefix_units"]["node"][0]
    idle = mine[entries["holders"][mine] == 0]
    assert queued == set(idle.tolist()), "an idle unit is not queued"
    assert free == replica["free_blocks"]

    held, users = 0, np.zeros(world.state["prefix_marks"].shape[1], int)
    for slot in world.state["slots"][0, r, : replica["running"]]:
        request = requests[slot["request"]]
        begin, count = int(request["prefix_begin"]), int(request["nodes"])
        users[ids[begin : begin + count]] += 1
        computed = int(request["computed"])
        if slot["finish_step"] != 2**31 - 1:  # it decodes: one more token each step
            left = int(slot["finish_step"]) - int(replica["step_count"])
            computed = int(request["prompt_tokens"] + request["output_tokens"]) - left - 1
            computed += int(replica["steps_with_blocks"]) if replica["busy"] else 0
        blocks = blocks_of(spec, computed)
        if request["fetched_tokens"] > 0:  # it has taken those of its whole prompt
            blocks = max(blocks, blocks_of(spec, int(request["prompt_tokens"])))
        held += blocks - count * int(spec["unit_blocks"])
    at = int(replica["head"])
    while at >= 0 and requests[at]["blocks"] > 0:  # it fetches from a tier
        begin, count = int(requests[at]["prefix_begin"]), int(requests[at]["nodes"])
        users[ids[begin : begin + count]] += 1
        held += int(requests[at]["blocks"]) - count * int(spec["unit_blocks"])
        at = int(requests[at]["next"])
    held += int((users > 0).sum()) * int(spec["unit_blocks"])
    counted = np.zeros_like(users)
    counted[entries["node"][mine]] = entries["holders"][mine]
    assert np.array_equal(users, counted), "a unit miscounts"
    assert held + free == spec["kv_blocks"], "blocks were lost or made"


def prefixes_are_found(world: World) -> None:
    """Each cached unit has one entry, in one chain, and one bit; every other entry is free."""
    state = {name: array[0] for name, array in world.state.items()}
    entries = state["prefix_entries"][: state["router"]["entries"]]
    chained, free, at = [], [], int(state["router"]["free_entry"])
    while at >= 0:
        free.append(at)
        at = int(entries[at]["next"])
    for head in state["prefix_heads"]:
        at = int(head)
        while at >= 0:
            chained.append(at)
            at = int(entries[at]["next"])
    assert sorted(free + chained) == list(range(len(entries)))
    pairs = [(int(entries[at]["node"]), int(entries[at]["replica"])) for at in chained]
    ids = int((state["requests"]["prefix_begin"] + state["requests"]["prefix_count"]).max())
    known = int(state["prefix_units"]["node"][:ids].max(initial=-1)) + 1
    marks = state["prefix_marks"][:known, 0]  # what lies beyond is left over from other episodes
    bits = [(node, r) for node in range(known) for r in range(64) if marks["cached"][node] >> r & 1]
    assert sorted(pairs) == bits
    assert not (marks["cached"] & ~marks["sent"]).any(), "cached where it was not sent"


def blocks_of(spec: np.void, computed: int) -> int:
    full = -(-computed // int(spec["block_size"]))
    windows = int(spec["window_groups"]) * min(full, int(spec["window_blocks"]))
    return full + windows + int(spec["state_blocks"])


def limits_are_kept(world: World, r: int) -> None:
    replica, spec = world.state["replicas"][0, r], world.shared["replica_specs"][r]
    assert 0 <= replica["prefilling"] <= replica["running"] <= spec["max_num_seqs"]
    assert 0 <= replica["free_blocks"] <= spec["kv_blocks"]
    if replica["busy"]:
        assert 1 <= replica["tokens"] <= spec["max_num_batched_tokens"]
        assert replica["end_s"] > replica["start_s"]
        assert replica["end_s"] > world.clock["now_s"][0]
        assert replica["running"] > 0
    else:
        assert replica["running"] == 0
        assert replica["waiting"] == 0 or replica["start_s"] == first_queued_s(world, r)


def first_queued_s(world: World, r: int) -> float:
    """When the head of the queue reaches the engine: not before now, as nothing runs there."""
    queued_s = world.state["requests"][0][world.state["replicas"][0, r]["head"]]["queued_s"]
    assert queued_s >= world.clock["now_s"][0]
    return float(queued_s)


def books_agree(world: World, r: int) -> None:
    """The replica's running sums against the requests that they sum over."""
    replica = world.state["replicas"][0, r]
    rows = world.state["requests"][0]
    mine = rows[(rows["replica"] == r) & ~(rows["finish_s"] <= world.clock["now_s"][0])]
    assert replica["in_flight"] == len(mine) == replica["running"] + replica["waiting"]
    assert replica["in_flight_tokens"] == (mine["prompt_tokens"] + mine["estimate_tokens"]).sum()
    assert np.isclose(replica["work_s"], mine["work_s"].sum(), atol=1e-9)
    queued, context, waiting, index = 0, 0, 0, int(replica["head"])
    while index >= 0:
        queued += int(rows[index]["prompt_tokens"] + rows[index]["generated"])
        waiting, last, index = waiting + 1, index, int(rows[index]["next"])
        assert index >= 0 or last == replica["tail"]
    assert waiting == replica["waiting"]
    for slot in world.state["slots"][0, r, : replica["running"]]:
        row = rows[slot["request"]]
        known = int(row["prompt_tokens"] + row["output_tokens"])
        if slot["finish_step"] == 2**31 - 1:
            queued += int(row["prompt_tokens"] + row["generated"] - row["computed"])
        else:
            context += known - (int(slot["finish_step"]) - int(replica["step_count"])) - 1
    assert queued == replica["queued_tokens"]
    assert context == replica["context_tokens"]


def growth_is_counted(world: World, r: int) -> None:
    """The blocks that each sequence takes next are counted at the step at which it takes them."""
    replica, spec = world.state["replicas"][0, r], world.shared["replica_specs"][r]
    rows, size = world.state["requests"][0], int(spec["block_size"])
    window = int(spec["window_blocks"]) * size
    growth = np.zeros(size, int)
    for slot in world.state["slots"][0, r, : replica["running"]]:
        if slot["finish_step"] != 2**31 - 1:
            row, step = rows[slot["request"]], int(replica["step_count"])
            known = int(row["prompt_tokens"] + row["output_tokens"])
            computed = known - (int(slot["finish_step"]) - step) - 1
            growth[(computed - step) % size] += 1
            if computed < window:
                growth[(computed - step) % size] += int(spec["window_groups"])
    assert np.array_equal(world.state["decode_phases"][0, r, :size], growth)


def check_world(env: ClusterEnv) -> None:
    world: World = env._world
    router = world.state["router"][0]
    prefixes_are_found(world)
    for r in range(len(world.shared["replica_specs"])):
        blocks_are_conserved(world, r)
        limits_are_kept(world, r)
        books_agree(world, r)
        growth_is_counted(world, r)
    assert router["in_flight"] == world.state["replicas"][0]["in_flight"].sum()
    waiting_here = router["held"] + (router["deciding"] >= 0)
    assert router["arrived"] == router["finished"] + router["in_flight"] + waiting_here


def check_observation(env: ClusterEnv, obs: dict[str, np.ndarray]) -> None:
    assert env.observation_space.contains(obs)
    for key, value in obs.items():
        assert np.isfinite(value).all(), key
    assert obs["action_mask"].any()


def play(env: ClusterEnv, seed: int, check: bool = True) -> tuple[list[bytes], dict[str, Any]]:
    """One episode of random actions, one in ten of them infeasible; returns its bytes."""
    rng = np.random.default_rng(seed)
    obs, info = env.reset(seed=seed)
    trace, done, now_s, moves = [], False, 0.0, 0
    while not done:
        if check:
            check_world(env)
            check_observation(env, obs)
        action = int(rng.choice(np.flatnonzero(obs["action_mask"])))
        if rng.random() < 0.1:
            action = int(rng.integers(-3, len(obs["action_mask"]) + 3))
        obs, reward, done, truncated, info = env.step(action)
        assert np.isfinite(reward) and not truncated
        assert info["time_s"] >= now_s, "time ran back"
        now_s, moves = info["time_s"], moves + 1
        trace.append(b"".join(v.tobytes() for v in obs.values()) + np.float64(reward).tobytes())
        assert moves < 10_000
    if check:
        check_world(env)
        check_observation(env, obs)
    return trace, info


def check_results(env: ClusterEnv, info: dict[str, Any]) -> None:
    """Every request ended exactly once, in order of its stages, where it was sent."""
    table = env.results()["requests"]
    n = len(table["arrival_s"])
    assert info["finished"] == info["arrived"] == n
    for name in ("arrival_s", "first_token_s", "finish_s"):
        assert np.isfinite(table[name]).all()
    assert (table["arrival_s"] < table["first_token_s"]).all()
    assert (table["first_token_s"] <= table["finish_s"]).all()
    assert (table["finish_s"] > table["first_token_s"])[table["output_tokens"] > 1].all()
    assert ((table["replica"] >= 0) & (table["replica"] < len(env.scenario.replicas))).all()
    assert (table["cached_tokens"] < table["prompt_tokens"]).all()
    assert (table["cached_tokens"] >= 0).all()
    assert table["preemptions"].sum() == info["preemptions"]
    assert info["time_s"] == table["finish_s"].max()
    for key in ("slo_attainment", "prefix_hit_rate"):
        assert 0 <= info[key] <= 1
    kv = np.array([kv_groups(r.deployment).longest(r.kv_blocks) for r in env.scenario.replicas])
    assert (table["prompt_tokens"] + table["output_tokens"] <= kv[table["replica"]]).all()


@FEW
@given(scenario=scenarios(), seed=st.integers(0, 1000))
def test_worlds_stay_consistent(scenario: Scenario, seed: int) -> None:
    env = make(scenario)
    _, info = play(env, seed)
    check_results(env, info)


@FEW
@given(scenario=scenarios(rate_factor=30.0), seed=st.integers(0, 1000))
def test_overload_with_many_preemptions(scenario: Scenario, seed: int) -> None:
    env = make(scenario)
    _, info = play(env, seed)
    check_results(env, info)


@settings(FEW, max_examples=15)
@given(scenario=scenarios(), seed=st.integers(0, 1000))
def test_the_same_seed_gives_the_same_bytes(scenario: Scenario, seed: int) -> None:
    """Also in a used environment, and whatever happened there before."""
    used = make(scenario)
    play(used, seed + 1, check=False)
    first, info = play(used, seed, check=False)
    again, info_again = play(make(scenario), seed, check=False)
    assert first == again and info == info_again


@settings(FEW, max_examples=10)
@given(scenario=scenarios(rate_factor=5.0), seed=st.integers(0, 1000))
def test_looking_changes_nothing(scenario: Scenario, seed: int) -> None:
    """A restored state goes on as the original did."""
    env = make(scenario)
    rng = np.random.default_rng(seed)
    obs, _ = env.reset(seed=seed)
    for _ in range(int(rng.integers(0, 20))):
        obs, _, done, _, _ = env.step(int(rng.choice(np.flatnonzero(obs["action_mask"]))))
        if done:
            return
    state = env.get_state()

    def go_on() -> list[bytes]:
        choose = np.random.default_rng(seed)
        rows, done = [], False
        now, _ = env.set_state(state)
        while not done:
            action = int(choose.choice(np.flatnonzero(now["action_mask"])))
            now, reward, done, _, _ = env.step(action)
            rows.append(b"".join(v.tobytes() for v in now.values()) + np.float64(reward).tobytes())
        return rows

    assert go_on() == go_on()


def test_hundreds_of_preemptions() -> None:
    """Twelve sequences that grow to 13 blocks each share 38 blocks."""
    row = {"gpu": "L40S", "model": "Llama-3-8B", "max_num_seqs": 12, "kv_blocks": 38}
    scenario = from_dict({"replicas": [row, row], "workload": {"max_tokens": 600}})
    rng = np.random.default_rng(1)
    stream = random_stream(rng, 50, 16)
    none = np.zeros(51, np.int64)
    stream = replace(
        stream,
        arrival_s=stream.arrival_s / 30,
        prompt_tokens=rng.integers(1, 40, 50).astype(np.int32),
        output_tokens=rng.integers(150, 200, 50).astype(np.int32),
        max_tokens=np.full(50, 200, np.int32),
        prefix_offsets=none,
        prefix_ids=np.zeros(0, np.int32),
    )
    env = make(replace(scenario, workload=Workload(stream, 50)))
    _, info = play(env, 0)
    check_results(env, info)
    assert info["preemptions"] > 100


@pytest.mark.parametrize("preset", PRESETS)
def test_generated_workloads(preset: str) -> None:
    """Each generator, at a rate far above what the replicas serve."""
    row = {"gpu": "A100-80", "model": "Llama-3-8B", "max_num_seqs": 24, "kv_blocks": 640}
    scenario = from_dict(
        {
            "replicas": [row, {**row, "gpu": "L40S"}],
            "workload": {
                "preset": preset,
                "num_requests": 100,
                "rate_per_s": 30.0,
                "max_tokens": 8192,
                "urgent_share": 0.2,
            },
            "router": {"hold_s": 0.1},
        }
    )
    env = make(scenario)
    _, info = play(env, 3)
    check_results(env, info)
