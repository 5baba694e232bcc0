"""The trace of a replay against the rules of the Trace Event Format, and against the episode."""

import json
from collections import Counter, defaultdict
from itertools import pairwise

import numpy as np
import pytest
from replay_episodes import WORLDS, played

from gpuyard.envs.scene import REPLICA_PHASES
from gpuyard.evaluation.replay.episode import ENDS
from gpuyard.evaluation.replay.trace import trace

NEEDED = {
    "X": {"ts", "dur", "pid", "tid", "args"},
    "b": {"ts", "pid", "tid", "id", "cat"},
    "e": {"ts", "pid", "tid", "id", "cat"},
    "i": {"ts", "pid", "tid", "s"},
    "C": {"ts", "pid", "args"},
    "M": {"pid", "args"},
}
"""What the format asks of each phase of event, besides ``name`` and ``ph``."""


def events_of(name):
    whole = json.loads(trace(played(name).episode))
    assert set(whole) == {"traceEvents", "displayTimeUnit", "otherData"}
    assert whole["displayTimeUnit"] in ("ms", "ns")
    return whole["traceEvents"]


@pytest.mark.parametrize("name", WORLDS)
def test_every_event_has_what_its_phase_needs(name):
    for event in events_of(name):
        assert isinstance(event["name"], str) and event["name"]
        assert NEEDED[event["ph"]] <= set(event), event
        for key in ("ts", "dur"):
            assert isinstance(event.get(key, 0), int) and event.get(key, 0) >= 0, event
        assert isinstance(event["pid"], int) and isinstance(event.get("tid", 0), int)
        assert event.get("s", "t") in "gpt"
        if event["ph"] == "C":
            assert all(isinstance(value, (int, float)) for value in event["args"].values())


@pytest.mark.parametrize("name", WORLDS)
def test_processes_and_threads_are_named(name):
    events = events_of(name)
    named = {
        kind: {(e["pid"], e["tid"]) for e in events if e["ph"] == "M" and e["name"] == kind}
        for kind in ("process_name", "thread_name")
    }
    used = {(e["pid"], e["tid"]) for e in events if e["ph"] in "XiC"}
    assert used <= named["thread_name"]
    assert {e["pid"] for e in events} <= {pid for pid, _ in named["process_name"]}
    counts = Counter((e["pid"], e["tid"], e["name"]) for e in events if e["ph"] == "M")
    assert set(counts.values()) == {1}


@pytest.mark.parametrize("name", WORLDS)
def test_complete_events_of_a_thread_do_not_overlap(name):
    lanes = defaultdict(list)
    for event in events_of(name):
        if event["ph"] == "X":
            lanes[event["pid"], event["tid"]].append((event["ts"], event["ts"] + event["dur"]))
    for spans in lanes.values():
        spans.sort()
        assert all(end <= begin for (_, end), (begin, _) in pairwise(spans))


@pytest.mark.parametrize("name", WORLDS)
def test_asynchronous_slices_nest_and_are_balanced(name):
    open_ = defaultdict(list)
    last = defaultdict(int)
    for event in events_of(name):
        if event["ph"] not in "be":
            continue
        key = event["cat"], event["id"]
        assert event["ts"] >= last[key]
        last[key] = event["ts"]
        if event["ph"] == "b":
            open_[key].append(event["name"])
        else:
            assert open_[key].pop() == event["name"]
    assert not any(open_.values())


@pytest.mark.parametrize("name", ("requests", "services", "apart"))
def test_every_request_is_one_slice(name):
    table = played(name).episode.tables["requests"]
    spans = defaultdict(list)
    for event in events_of(name):
        if event["name"] == "request":
            spans[event["id"]].append(event["ts"])
    assert set(spans) == set(range(len(table["arrival_s"])))
    for number, (begin, end) in spans.items():
        expected = 1e6 * table["arrival_s"][number], 1e6 * table["finish_s"][number]
        assert (begin, end) == pytest.approx(expected, abs=0.51)


@pytest.mark.parametrize("name", ("gangs", "services", "apart"))
def test_gangs_hold_their_devices_as_long_as_the_table_says(name):
    episode = played(name).episode
    jobs = episode.tables["jobs"]
    us, ends = np.zeros(len(jobs["job"])), Counter()
    for event in events_of(name):
        if "job" in event.get("args", {}):
            us[event["args"]["job"]] += event["dur"]
            ends[event["args"]["ended"]] += 1
    runs = 1 + jobs["preemptions"] + jobs["failures"]
    assert us == pytest.approx(1e6 * jobs["ran_s"] * jobs["gpus"], abs=float(64 * runs.max()))
    assert ends["finished"] == jobs["gpus"].sum()
    assert set(ends) <= set(ENDS)


@pytest.mark.parametrize("name", ("services", "apart"))
def test_replicas_have_their_phases(name):
    episode = played(name).episode
    names = Counter(e["name"] for e in events_of(name) if e["ph"] == "X")
    phases = Counter(REPLICA_PHASES[row["phase"]].upper() for row in episode.phases)
    assert {key: names[key] for key in phases} == phases
    assert {"QUEUED", "STARTING", "SERVING"} <= set(phases)


@pytest.mark.parametrize("name", WORLDS)
def test_counters_come_back_to_nothing(name):
    values = defaultdict(list)
    for event in events_of(name):
        if event["ph"] == "C" and "number" in event["args"]:
            values[event["name"]].append(event["args"]["number"])
    assert values and all(min(v) == 0 and v[0] == v[-1] == 0 for v in values.values())
    assert any(max(v) > 0 for v in values.values())
