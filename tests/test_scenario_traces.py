"""Traces of a scenario: what is wrong with one, and where it is looked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scenario_tables import BASE, REPLICA, play, workload, world, write

import gpuyard  # noqa: F401
from gpuyard.envs.scenario import ScenarioError, from_dict, load
from gpuyard.envs.workload.trace_file import TraceError

TRACE = "arrival_s,prompt_tokens,output_tokens\n0.0,100,10\n0.5,200,20\n1.5,300,5\n"
BAD_TRACES = [
    (TRACE.replace("prompt_tokens", "length"), "length", "rename them"),
    (TRACE.replace("200", "-200"), "line 3: prompt_tokens = '-200'", "whole number of tokens >= 1"),
    (TRACE.replace("200", "nan"), "line 3: prompt_tokens = 'nan'", "finite"),
    (TRACE.replace(",20\n", ",inf\n"), "line 3: output_tokens = 'inf'", "finite"),
    (TRACE.replace(",20\n", ",0\n"), "line 3: output_tokens = '0'", "correct or remove the row"),
    (TRACE.replace(",20\n", ",2.5\n"), "line 3: output_tokens = '2.5'", "whole number"),
    (TRACE.replace("200", "many"), "line 3: prompt_tokens = 'many'", "number"),
    (TRACE.replace("0.5", "-0.5"), "line 3: arrival_s = '-0.5'", "shift times"),
    (TRACE.replace("1.5", "0.25"), "line 4: arrival_s = '0.25'", "sort the file by time"),
    (TRACE.replace("0.5", "nan"), "line 3: arrival_s = 'nan'", "finite"),
    (TRACE.replace("200,", ""), "line 3: 2 values for 3 columns", "correct or remove the line"),
    (TRACE.splitlines()[0] + "\n", "no rows", "one row each"),
    ("", "the file is empty", "header line"),
]


@pytest.mark.parametrize(("text", "what", "remedy"), BAD_TRACES)
@pytest.mark.parametrize("way", ["file", "table", "with_trace"])
def test_bad_traces(tmp_path: Path, text: str, what: str, remedy: str, way: str) -> None:
    trace = write(tmp_path, text, "trace.csv")
    base = from_dict(BASE)
    with pytest.raises(ValueError) as caught:
        if way == "file":
            load(write(tmp_path, SCENARIO_WITH_TRACE))
        elif way == "table":
            from_dict(world(workload={"trace": "trace.csv"}), folder=tmp_path)
        else:
            base.with_trace(trace)
    assert isinstance(caught.value, (ScenarioError, TraceError))
    message = str(caught.value)
    assert str(trace) in message and what in message and remedy in message, message


SCENARIO_WITH_TRACE = """
[[replicas]]
gpu = "A100-80"
model = "Llama-3-8B"

[workload]
trace = "trace.csv"
num_requests = 0
"""


def test_missing_traces(tmp_path: Path) -> None:
    path = write(tmp_path, SCENARIO_WITH_TRACE)
    with pytest.raises(ScenarioError) as caught:
        load(path)
    assert f"{tmp_path / 'trace.csv'}: cannot be opened" in str(caught.value)
    with pytest.raises(TraceError, match="check the path"):
        from_dict(BASE).with_trace("nowhere.csv")
    with pytest.raises(TraceError, match="unknown trace format 'csv'"):
        from_dict(BASE).with_trace(path, format="csv")


def test_a_trace_is_held_against_the_cluster(tmp_path: Path) -> None:
    small = from_dict(world(replicas=[{**REPLICA, "kv_blocks": 512}]))
    long = write(tmp_path, TRACE + "2.0,9000,10\n", "long.csv")
    with pytest.raises(ScenarioError) as caught:
        small.with_trace(long)
    assert "9010 prompt and output tokens never fits" in str(caught.value)
    assert "leave out request 3 of the trace" in str(caught.value)
    ids = "arrival_s,prompt_tokens,output_tokens,prefix_ids,prefix_block_tokens\n0,100,9,1 2,50\n"
    with pytest.raises(ScenarioError, match=r"block_size = 16 must divide.* of 50 tokens"):
        small.with_trace(write(tmp_path, ids, "ids.csv"))


def test_trace_paths_are_relative_to_the_scenario_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, TRACE, "trace.csv")
    path = write(tmp_path, SCENARIO_WITH_TRACE)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    scenario = load(path)
    assert scenario.name == "mine" and scenario.workload.num_requests == 3
    stream = scenario.workload.sample(np.random.default_rng(0))
    assert stream.prompt_tokens.tolist() == [100, 200, 300]
    assert play(scenario)["finished"] == 3
    with pytest.raises(TraceError):  # with_trace reads relative to the working directory
        scenario.with_trace("trace.csv")
    monkeypatch.chdir(tmp_path)
    assert from_dict(BASE).with_trace("trace.csv").workload.num_requests == 3


def test_rate_scale_speeds_up_arrivals(tmp_path: Path) -> None:
    write(tmp_path, TRACE, "trace.csv")
    table = world(workload={"trace": "trace.csv", "num_requests": 0, "rate_scale": 2.0})
    stream = from_dict(table, folder=tmp_path).workload.sample(np.random.default_rng(0))
    assert stream.arrival_s.tolist() == [0.0, 0.25, 0.75]
    assert from_dict(workload(rate_per_s=5.0, rate_scale=2.0)).workload.source.rate_per_s == 10.0
