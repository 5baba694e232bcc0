"""Sessions in the lines of Dynamo and AIPerf: contexts, waits, prefixes, who starts whom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from test_closed_loop_env import REPLICA, episode, recorded, small, turns_file

from gpuyard.envs.scenario import ScenarioError, from_dict
from gpuyard.envs.workload.requests import readers
from gpuyard.envs.workload.requests.readers import TraceError, TraceWarning


def line(session: Any, new: int, output: int, ids: list[int] | None = None, **more: Any):
    row = {"session_id": session, "input_length": new, "output_length": output, **more}
    return row if ids is None else {**row, "hash_ids": ids}


def sample(tmp_path: Path, rows: list[dict[str, Any]], **fields: Any):
    workload = recorded(turns_file(tmp_path / "t.jsonl", rows), **fields)
    return workload.sample(np.random.default_rng(0))


def ids_of(stream: Any, row: int) -> list[int]:
    begin = stream.prefix_begin[row]
    return stream.prefix_ids[begin : begin + np.diff(stream.prefix_offsets)[row]].tolist()


TURNS = [
    line("a", 40, 20, [7, 8, 9], timestamp=500),
    line("b", 33, 10, [7, 8, 5], timestamp=1500),
    line("a", 30, 30, [11, 12], delay=2500),
    line("b", 16, 7, [13], delay_ms=250),
]


def test_turns_that_say_what_they_add(tmp_path: Path) -> None:
    """AIPerf: contexts are 40, 40 + 20 + 30; the ids of 16 tokens begin as the other's do."""
    stream = sample(tmp_path, TURNS, starts="trace")
    assert stream.session.tolist() == [0, 1, 0, 1]
    assert stream.prompt_tokens.tolist() == [40, 33, 90, 59]
    np.testing.assert_array_equal(stream.arrival_s, [0.0, 1.0, np.nan, np.nan])
    np.testing.assert_array_equal(stream.think_s, [np.nan, np.nan, 2.5, 0.25])
    ids = [ids_of(stream, row) for row in range(4)]
    assert [len(some) for some in ids] == [60 // 16, 43 // 16, 120 // 16, 66 // 16]
    assert ids[2][:3] == ids[0] and ids[3][:2] == ids[1]
    assert ids[0][:2] == ids[1][:2]  # blocks 7 and 8 are whole in both
    assert not set(ids[2][2:]) & set(ids[3][2:])


def test_turns_that_give_their_whole_prompts(tmp_path: Path) -> None:
    """Dynamo's mooncake: later ids begin as the first ones do, or the scenario says so."""
    rows = [
        line("a", 32, 20, [1, 2], timestamp=0),
        line("a", 64, 9, [1, 2, 3, 4], timestamp=3000),
        line("b", 40, 9, [1, 6, 7], timestamp=9000),
    ]
    stream = sample(tmp_path, rows)
    assert stream.prompt_tokens.tolist() == [32, 40, 64]
    assert stream.think_s[2] == pytest.approx(3.0 - 20 * 0.02)  # less the answer's time
    ids = [ids_of(stream, row) for row in range(3)]
    assert ids[2][:2] == ids[0] and len(ids[2]) == 4 and len(ids[1]) == 2
    assert ids[1][0] == ids[0][0] and ids[1][1] not in ids[2]
    assert sample(tmp_path, rows, format="mooncake-delta").prompt_tokens.tolist() == [32, 40, 116]
    plain = [line("a", 32, 20), line("a", 64, 9)]
    assert sample(tmp_path, plain).prompt_tokens.tolist() == [32, 116]
    assert sample(tmp_path, plain, format="mooncake").prompt_tokens.tolist() == [32, 64]


def test_by_the_clock_sessions_are_labels(tmp_path: Path) -> None:
    rows = [line(s, 600, 9, [i, i + 1], timestamp=i) for i, s in enumerate("aab")]
    stream = readers.read(turns_file(tmp_path / "t.jsonl", rows))
    assert stream.session.tolist() == [0, 0, 1]
    waiting = [line("a", 20, 5, delay=0), line("a", 20, 5, delay=9)]
    with pytest.raises(TraceError, match=r"set workload.closed_loop = true"):
        readers.read(turns_file(tmp_path / "t.jsonl", waiting))


TREE = [
    line("root", 40, 5, request_id="r0", timestamp=0),
    line("x", 20, 5, request_id="x0", wait_for=["r0"], delay=500),
    line("y", 20, 5, request_id="y0", wait_for=["r0"]),
    line("x", 10, 5, request_id="x1", wait_for=["x0"], tool_wait_ms=100),
    line("other", 30, 5, request_id="o0", timestamp=2000),
    line("z", 20, 5, request_id="z0", wait_for=["x0"]),
    line("x", 10, 5, request_id="x2", wait_for=["x1", "z0"]),
    line("root", 10, 5, request_id="r1", wait_for=["r0", "x2", "y0"], delay=1000, tool_wait_ms=50),
]
"""``r0`` starts x and y, ``x0`` starts z."""


def test_sub_agents_are_started_and_waited_for(tmp_path: Path) -> None:
    # x1 follows x0 and so is who waits for z: x2 names it too late
    with pytest.raises(TraceError, match=r"line 7: wait_for = .*waits for what it did not start"):
        sample(tmp_path, TREE)
    rows = [dict(row) for row in TREE]
    rows[3]["wait_for"], rows[6]["wait_for"] = ["x0", "z0"], ["x1"]
    stream = sample(tmp_path, rows)
    assert stream.session.tolist() == [0, 1, 2, 3, 4, 0, 2, 2]
    assert stream.prompt_tokens.tolist() == [40, 30, 20, 20, 20, 55, 35, 50]
    np.testing.assert_array_equal(stream.think_s, [np.nan, np.nan, 0.5, 0.0, 0.0, 1.05, 0.1, 0.0])
    assert stream.forks.tolist() == [(0, 2, 2), (2, 4, 1)]
    path = turns_file(tmp_path / "t.jsonl", rows)
    scenario = small(workload={"closed_loop": True, "trace": path, "sessions": 0})
    env = gym.make("gpuyard/Routing-v0", scenario=scenario).unwrapped
    _, info = episode(env, 0)
    requests = env.results()["requests"]
    begin_s, end_s = requests["arrival_s"], requests["finish_s"]
    assert info["sessions_ended"] == 2 and np.isfinite(end_s).all()
    assert begin_s[2] == end_s[0] + 0.5 and begin_s[3] == end_s[0] and begin_s[4] == end_s[2]
    assert begin_s[6] == max(end_s[2], end_s[4]) + 0.1
    assert begin_s[5] == max(end_s[7], end_s[3]) + 1.05  # the last of both


def test_windows_keep_who_starts_whom(tmp_path: Path) -> None:
    rows = []
    for tree in range(6):
        rows += [
            line(f"r{tree}", 20, 5, request_id=f"a{tree}", timestamp=tree),
            *(
                line(f"s{tree}{k}", 20 + tree, 5, request_id=f"b{tree}{k}", wait_for=[f"a{tree}"])
                for k in range(tree % 3)
            ),
            line(f"r{tree}", 20, 5, wait_for=[f"b{tree}{k}" for k in range(tree % 3)]),
        ]
    workload = recorded(turns_file(tmp_path / "t.jsonl", rows), sessions=3)
    assert workload.num_sessions == 6  # three, and those that any three in a row start
    rng = np.random.default_rng(0)
    for _ in range(20):
        stream = workload.sample(rng)
        assert np.isfinite(stream.arrival_s).sum() == 3
        assert stream.session.max() + 1 == 3 + stream.forks["count"].sum() <= 6
        for parent, first, count in stream.forks:
            started = stream.prompt_tokens[first : first + count]
            assert (started == started[0]).all() and started[0] % 3 == (20 + count) % 3
            assert stream.session[parent] < 3
            np.testing.assert_array_equal(
                stream.session[first : first + count], np.arange(first, first + count)
            )


@pytest.mark.filterwarnings("ignore:.*nobody waits for")
@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([line("a", 20, 5, wait_for=["x"])], r"line 1: wait_for = 'x' is no request_id"),
        ([line("a", 20, 5, wait_for="x")], r"line 1: wait_for = 'x' is no list"),
        ([line("a", 20, 5, request_id="x")] * 2, r"line 2: request_id = 'x' is no name of its own"),
        ([line(None, 20, 5)], r"line 1: session_id = None is no label"),
        ([line("a", 20, 5, delay=-1)], r"line 1: delay = -1 is negative"),
        ([line("a", 20, 5, timestamp="now")], r"line 1: timestamp = 'now' is not a number"),
        ([line("a", 20, 5, ["x"])], r"line 1: hash_ids = \['x'\] is not a list of whole numbers"),
        ([line("a", 20, 5, [1, 2, 3])], r"hash_ids = \[1, 2, 3\] has 3 ids.*prefix_block_tokens"),
        ([line("a", 20, 0)], r"line 1: output_length = 0 is not a length"),
        (
            [line("a", 20, 5, request_id="x"), line("b", 20, 5, wait_for=["x"])],
            r"line 2: wait_for = \['x'\] begins a session behind the last turn of another",
        ),
        (
            [
                *(line("a", 9, 9, request_id="x", wait_for=["y"]), line("a", 9, 9)),
                *(line("b", 9, 9, request_id="y", wait_for=["x"]), line("b", 9, 9)),
            ],
            r"line 1: wait_for = \['y'\] goes round in a circle",
        ),
    ],
)
def test_errors_name_line_field_and_value(tmp_path: Path, rows, said: str) -> None:
    with pytest.raises(TraceError, match=said):
        sample(tmp_path, rows)


def test_a_form_that_a_file_does_not_have(tmp_path: Path) -> None:
    rows = [{"session_id": "a", "prompt": 20, "output": 5, "timestamp": 0}]
    with pytest.raises(TraceError, match=r"line 1: field 'input_length' is missing"):
        sample(tmp_path, rows, format="mooncake-delta")


def test_who_is_not_waited_for_is_said(tmp_path: Path) -> None:
    rows = [
        line("a", 20, 5, request_id="x"),
        line("b", 20, 5, wait_for=["x"]),
        line("a", 20, 5),
    ]
    with pytest.warns(TraceWarning, match="nobody waits for 1 sessions that others start"):
        stream = sample(tmp_path, rows)
    assert stream.forks.tolist() == [(0, 1, 1)]
    path = str(tmp_path / "t.jsonl")
    workload = {"closed_loop": True, "trace": path, "sessions": 0}
    for more, said in (({}, "wait_for"), ({"format": "auto", "max_concurrency": 1}, "wait_for")):
        with pytest.warns(TraceWarning), pytest.raises(ScenarioError, match=said):
            joint({**workload, **more})
    with pytest.raises(ScenarioError, match="max_concurrency = 1 is modelled for"):
        joint({"closed_loop": True, "preset": "math", "max_concurrency": 1})


def joint(workload: dict[str, Any]) -> Any:
    """Read a world whose replicas are gangs of a cluster."""
    service = {"name": "agents", **REPLICA, "startup_s": 0.0, "workload": workload, "min": 1}
    return from_dict(
        {
            "cluster": {"pools": [{"gpu": "A100-80", "nodes": 1, "gpus_per_node": 2}]},
            "jobs": {"num_jobs": 1, "max_gpus": 1, "profiles": {"VGG-16": 1.0}},
            "deployments": [service],
        }
    )
