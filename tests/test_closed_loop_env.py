"""Worlds whose sessions answer back, from outside: faces, rewards, copies, workloads, errors."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from gpuyard import baselines
from gpuyard.envs.scenario import ScenarioError, from_dict, load
from gpuyard.envs.scenario.closed_loop import read_closed_loop
from gpuyard.envs.workload.requests import sessions
from gpuyard.envs.workload.requests.readers import TraceWarning
from gpuyard.evaluation.replay.recorder import play
from gpuyard.evaluation.rollout import rollout
from gpuyard.evaluation.sessions import session_metrics, session_seconds

REPLICA = {"gpu": "A100-80", "model": "Llama-3-8B", "kv_blocks": 2500, "max_num_seqs": 16}
WORKLOAD = {
    **{"closed_loop": True, "preset": "agentic", "sessions": 10, "max_tokens": 16384},
    **{"wave": 4, "wave_s": 3.0, "system_tokens": 256, "turns": {"p50": 4, "p90": 9, "most": 12}},
}


def small(**changes: Any):
    replicas = [{**REPLICA, "count": 2}, {**REPLICA, "gpu": "L40S", "kv_blocks": 1500}]
    return from_dict({"replicas": replicas, "workload": WORKLOAD, **changes}, name="small")


def episode(env: Any, seed: int, hold: float = 0.0) -> tuple[list[float], dict[str, Any]]:
    """Play at random; a request is held back with some probability where that is allowed."""
    rng = np.random.default_rng(seed)
    observation, info = env.reset(seed=seed)
    rewards, done = [], False
    while not done:
        feasible = np.flatnonzero(observation["action_mask"])
        action = feasible[-1] if rng.random() < hold else rng.choice(feasible)
        observation, reward, terminated, truncated, info = env.step(int(action))
        rewards.append(float(reward))
        done = terminated or truncated
    return rewards, info


@pytest.fixture(scope="module")
def env():
    return gym.make("gpuyard/Routing-v0", scenario=small()).unwrapped


def test_a_step_ends_with_its_last_session(env) -> None:
    _, info = episode(env, 0)
    requests = env.results()["requests"]
    assert info["finished"] == info["arrived"] == len(requests["arrival_s"])
    assert info["sessions_ended"] == 10 and info["truncated_reason"] == 0
    ends = np.sort([requests["finish_s"][requests["session"] == s].max() for s in range(10)])
    assert info["makespan_s"] == info["time_s"] == ends[-1]
    assert info["time_to_90_s"] == ends[8]  # the ninth of ten
    tokens = requests["output_tokens"].sum()
    assert info["tokens_per_gpu_s"] == pytest.approx(tokens / ends[-1] / 3)
    assert 1.0 <= info["imbalance"] <= 3.0
    np.testing.assert_array_equal(
        np.unique(requests["arrival_s"][:10]), [0.0, 3.0, 6.0]
    )  # in waves of 4, 4, 2


@pytest.mark.parametrize(
    ("term", "key", "sign"),
    [
        *(("makespan", "makespan_s", -1), ("time_to_90", "time_to_90_s", -1)),
        *(("throughput", "tokens_per_gpu_s", 1), ("imbalance", "imbalance", -1)),
    ],
)
def test_rewards_add_up_to_what_the_step_is_measured_by(term: str, key: str, sign: int) -> None:
    env = gym.make("gpuyard/Routing-v0", scenario=small(reward={term: 1.0})).unwrapped
    rewards, info = episode(env, 1)
    assert len(set(np.sign(rewards)) - {0.0}) >= 1
    assert sum(rewards) == pytest.approx(sign * info[key], rel=1e-9)


def test_a_step_that_is_cut_short_counts_until_then() -> None:
    scenario = small(reward={"makespan": 1.0}, limits={"max_time_s": 10.0})
    env = gym.make("gpuyard/Routing-v0", scenario=scenario).unwrapped
    rewards, info = episode(env, 0)
    assert info["truncated_reason"] == 1 and sum(rewards) == pytest.approx(-10.0)
    requests = env.results()["requests"]
    assert np.isnan(requests["arrival_s"]).any()
    come = requests["arrival_s"] <= 10.0  # of the others some have a time that is still to come
    assert come.sum() == info["arrived"] < np.isfinite(requests["arrival_s"]).sum()


def test_vector_environment_equals_single_ones(env) -> None:
    many: Any = gym.make_vec("gpuyard/Routing-v0", num_envs=3, scenario=small(), num_threads=2)
    observation, _ = many.reset(seed=[5, 6, 7])
    singles = [gym.make("gpuyard/Routing-v0", scenario=small()).unwrapped for _ in range(3)]
    for i, single in enumerate(singles):
        mine, _ = single.reset(seed=5 + i)
        assert all((mine[key] == observation[key][i]).all() for key in mine)
    rng = np.random.default_rng(0)
    for _ in range(25):
        actions = (
            rng.random(observation["action_mask"].shape) * observation["action_mask"]
        ).argmax(1)
        observation, rewards, _, _, _ = many.step(actions)
        for i, single in enumerate(singles):
            mine, reward, done, _, _ = single.step(int(actions[i]))
            assert reward == rewards[i] and not done
            assert all(mine[key].tobytes() == observation[key][i].tobytes() for key in mine)


def test_same_seed_same_bytes_and_a_state_put_back_goes_on_the_same_way(env) -> None:
    first = episode(env, 3)
    table = env.results()["requests"]
    assert episode(env, 3) == first
    for name, column in env.results()["requests"].items():
        assert column.tobytes() == table[name].tobytes()
    observation, _ = env.reset(seed=3)
    for _ in range(12):
        observation, *_ = env.step(int(observation["action_mask"].argmax()))
    state = env.get_state()
    ends = []
    for _ in range(2):
        env.set_state(state)
        done = False
        while not done:
            observation, _, done, _, info = env.step(2)
        ends.append((info, env.results()["requests"]["finish_s"].tobytes()))
    assert ends[0] == ends[1]


@pytest.mark.parametrize("router", [{"hold_s": 0.5}, {"signal_interval_s": 0.3}])
def test_turns_may_be_held_back_and_reports_come_late(router) -> None:
    scenario = small(router={**router, "hold_limit_s": 3.0})
    env = gym.make("gpuyard/Routing-v0", scenario=scenario).unwrapped
    rewards, info = episode(env, 2, hold=0.5 if "hold_s" in router else 0.0)
    assert info["sessions_ended"] == 10
    assert ("hold_s" in router) == (len(rewards) > info["arrived"])


def test_sessions_are_measured_from_first_arrival_to_last_token() -> None:
    table = {
        "session": np.array([0, 1, 0, 2]),
        "arrival_s": np.array([1.0, 2.0, 5.0, 3.0]),
        "finish_s": np.array([4.0, 12.0, 9.0, np.nan]),
    }
    np.testing.assert_array_equal(session_seconds(table), [8.0, 10.0, np.nan])
    measured = session_metrics(table)
    assert measured["session_mean_s"] == 9.0 and measured["session_p100_s"] == 10.0
    played = rollout("x", baselines.make("routing/random"), small(), np.arange(2)).metrics
    assert (played["session_mean_s"] <= played["makespan_s"]).all()
    assert {"time_to_90_s", "tokens_per_gpu_s", "imbalance", "prefix_hit_rate"} <= set(played)


def test_generated_sessions_have_the_distributions_they_state() -> None:
    stream = sessions.preset("agentic", sessions=4000, max_tokens=2**20).sample(
        np.random.default_rng(0)
    )
    turns = np.bincount(stream.session)
    assert np.percentile(turns, [50, 90]) == pytest.approx([29, 56], rel=0.05)
    assert turns.max() == 99
    waits = stream.think_s[np.isfinite(stream.think_s)]
    assert np.percentile(waits, [50, 99]) == pytest.approx([5.2, 81.4], rel=0.05)
    assert stream.output_tokens.mean() == pytest.approx(501, rel=0.05)


def test_contexts_grow_and_prefixes_chain() -> None:
    generator = sessions.preset("agentic", sessions=12, group=3, max_tokens=32768)
    stream = generator.sample(np.random.default_rng(1))
    begin, count = stream.prefix_begin, np.diff(stream.prefix_offsets)
    firsts = {}
    for session in range(12):
        rows = np.flatnonzero(stream.session == session)
        total = stream.prompt_tokens[rows].astype(int) + stream.output_tokens[rows]
        assert (stream.prompt_tokens[rows][1:] > total[:-1]).all()
        assert (count[rows] == total // 64).all() and len(set(begin[rows])) == 1
        firsts[session] = stream.prefix_ids[begin[rows[0]] : begin[rows[0]] + count[rows[-1]]]
        shared = stream.prompt_tokens[rows[0]] // 64
        leader = firsts[session // 3 * 3]
        assert (firsts[session][:shared] == leader[:shared]).all()  # a task in common
        assert (firsts[session][:64] == firsts[0][:64]).all()  # 4,096 tokens of system prompt
    own = [set(ids.tolist()) for ids in firsts.values()]
    assert len(own[0] & own[4]) == 64
    ids, distinct = len(stream.prefix_ids), int(stream.prefix_ids.max()) + 1
    assert (len(stream), ids, distinct) <= generator.room
    assert len(np.unique(stream.prefix_ids)) == distinct


def turns_file(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def recorded(path: str, **fields: Any):
    workload = {"closed_loop": True, "trace": path, "sessions": 0, "prefix_block_tokens": 16}
    return small(workload={**workload, **fields}).workload


def test_a_table_of_turns_says_what_waits_for_what(tmp_path: Path) -> None:
    rows = [
        {"session": "a", "turn": 0, "new_tokens": 100, "output_tokens": 20, "tool_s": 0.0},
        {"session": "b", "turn": 0, "new_tokens": 30, "output_tokens": 10, "tool_s": 0.0},
        {"session": "a", "turn": 2, "new_tokens": 40, "output_tokens": 9, "tool_s": 4.5},
        {"session": "a", "turn": 1, "new_tokens": 50, "output_tokens": 30, "tool_s": 1.5},
    ]
    stream = recorded(turns_file(tmp_path / "t.jsonl", rows)).sample(np.random.default_rng(0))
    assert stream.session.tolist() == [0, 1, 0, 0]
    assert stream.prompt_tokens.tolist() == [100, 30, 170, 240]
    np.testing.assert_array_equal(stream.think_s, [np.nan, np.nan, 1.5, 4.5])
    np.testing.assert_array_equal(stream.arrival_s, [0.0, 0.0, np.nan, np.nan])
    assert np.diff(stream.prefix_offsets).tolist() == [7, 2, 12, 15]  # blocks of 16
    assert len(set(stream.prefix_begin[[0, 2, 3]])) == 1 and len(stream.prefix_ids) == 17


def test_a_context_that_was_compacted_shares_nothing(tmp_path: Path) -> None:
    rows = [
        {"session": 1, "input_tokens": tokens, "output_tokens": 32, "think_time_s": 1.0}
        for tokens in (64, 70, 128, 48)  # the second leaves out what the first answered
    ]
    stream = recorded(turns_file(tmp_path / "t.jsonl", rows)).sample(np.random.default_rng(0))
    ids = [
        stream.prefix_ids[begin : begin + count].tolist()
        for begin, count in zip(stream.prefix_begin, np.diff(stream.prefix_offsets), strict=True)
    ]
    assert ids[1][:4] == ids[0][:4] and not set(ids[1][4:]) & set(ids[0])
    assert ids[2][:6] == ids[1] and not set(ids[3]) & set(ids[2])


def test_public_traces_answer_back(data_dir: Path) -> None:
    folder = data_dir / "traces"
    swe = str(folder / "agentic-sessions" / "exgentic_swebench_sessions0-31.csv.gz")
    with pytest.warns(TraceWarning, match="78 of 1590 turns have no output"):
        calls = read_closed_loop({"trace": swe, "sessions": 0}, Path())
    with (
        pytest.warns(TraceWarning),
        pytest.raises(ScenarioError, match=r"up to 67892 .* leave out sessions of the trace"),
    ):
        recorded(swe)
    stream = calls.sample(np.random.default_rng(0))
    assert calls.num_sessions == 32 and len(stream) == 1512  # of 1,590, 78 failed
    assert np.nanmin(stream.think_s) >= 0.0
    trace = str(folder / "mooncake-fast25" / "conversation_trace_first70pct.jsonl.gz")
    chats = read_closed_loop({"trace": trace, "starts": "trace", "sessions": 500}, Path())
    stream = chats.sample(np.random.default_rng(0))
    assert stream.session.max() == 499 and len(stream) > 600
    waits = np.isfinite(stream.think_s)
    order = np.argsort(stream.session, kind="stable")
    counts = np.diff(stream.prefix_offsets)
    for before, after in pairwise(order):
        if waits[after]:  # goes on from all whole blocks of the turn before
            ids = [
                stream.prefix_ids[stream.prefix_begin[i] : stream.prefix_begin[i] + counts[i]]
                for i in (before, after)
            ]
            assert (ids[1][: len(ids[0])] == ids[0]).all()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"num_requests": 5}, "workload.num_requests = 5 has no place in a closed loop"),
        ({"images": {}}, "workload.images: turns of a closed loop bring none"),
        ({"preset": "chat"}, "unknown sessions 'chat'; choose one of agentic, math"),
        ({"turns": 5}, "turns = 5 must be a table of p50, p90, most"),
        ({"turns": {"p50": 9, "p90": 5}}, r"Spread.p90 = 5 is out of range"),
        ({"speed": 5}, "sessions have no field 'speed'"),
        ({"sessions": 0}, "SessionGenerator.sessions = 0 is out of range"),
        ({"closed_loop": "yes"}, "workload.closed_loop = 'yes' must be true or false"),
        ({"trace": "x.jsonl", "starts": "now"}, "workload.starts = 'now' must be waves or trace"),
        ({"trace": "x.jsonl", "turns": 4}, "workload.turns is unknown"),
    ],
)
def test_what_does_not_fit_is_refused(table, message) -> None:
    with pytest.raises(ScenarioError, match=message):
        small(workload={"closed_loop": True, **table})


def test_terms_of_sessions_are_refused_by_the_clock() -> None:
    with pytest.raises(ScenarioError, match=r"reward.makespan = 1.0 is about sessions that answer"):
        small(workload={"num_requests": 8}, reward={"makespan": 1.0})


def test_an_ideal_cache_hits_nearly_all_of_a_session() -> None:
    """What a router that never moves a session can reach at most, in ``rollout-agentic``."""
    workload = load("rollout-agentic").workload
    stream = workload.sample(np.random.default_rng(0))
    order = np.argsort(stream.session, kind="stable")
    prompt = stream.prompt_tokens[order].astype(float)
    firsts = np.flatnonzero(np.isnan(stream.think_s[order]))
    again = np.delete(prompt, firsts).sum()
    assert 0.85 < again / prompt.sum() < 1.0


def test_a_recording_follows_every_turn_from_its_arrival() -> None:
    """Turns stand behind all first requests, and are seen only once they have arrived."""
    episode = play("routing/random", baselines.make("routing/random"), small())
    requests, stays = episode.tables["requests"], episode.stays
    assert set(stays["request"]) == set(range(len(requests["arrival_s"])))
    first = np.unique(stays["request"], return_index=True)[1]
    np.testing.assert_array_equal(stays["begin_s"][first], requests["arrival_s"])
    last = np.append(first[1:], len(stays)) - 1
    np.testing.assert_array_equal(stays["end_s"][last], requests["finish_s"])
