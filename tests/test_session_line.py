"""So many sessions open at once: the engine against the naive reference, and from outside."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from engine_worlds import cost_table, engine_world, random_spec, reference_requests
from reference_sessions import simulate_sessions
from session_worlds import in_line, last_turns, random_sessions, waits, with_forks
from test_closed_loop_env import WORKLOAD, episode, recorded, small, turns_file
from test_session_exact import play
from test_session_steps import by_hand

from gpuyard.envs.scenario import ScenarioError
from gpuyard.envs.workload.requests import sessions


@pytest.mark.parametrize("features", [{}, {"frontend": True}, {"whole_prompt": True, "lag": True}])
def test_sessions_begin_when_the_reference_says(features) -> None:
    stood = 0
    for seed in range(6):
        rng = np.random.default_rng(seed)
        unit = int(rng.choice([0, 16, 32]))
        specs = [random_spec(rng, unit, **features) for _ in range(int(rng.integers(1, 4)))]
        tables = [cost_table(rng, True, spec) for spec in specs]
        stream = random_sessions(rng, int(rng.integers(8, 25)), unit)
        stream = with_forks(rng, stream, 4) if seed % 2 else stream
        stream = in_line(stream, int(rng.integers(1, 4)))
        assignment = rng.integers(0, len(specs), len(stream))
        world = engine_world(specs, tables, stream)
        play(world, assignment)
        requests, turns = reference_requests(stream), waits(stream)
        expected, arrival_s = simulate_sessions(
            specs, tables, requests, turns, list(assignment), last=last_turns(stream)
        )
        got, router = world.state["requests"][0], world.state["router"][0]
        np.testing.assert_allclose(got["arrival_s"], arrival_s, rtol=1e-9)
        np.testing.assert_array_equal(got["cached_tokens"], expected.cached_tokens)
        np.testing.assert_allclose(got["finish_s"], expected.finish_s, rtol=1e-9)
        assert router["sessions_ended"] == router["sessions"] == len(last_turns(stream))
        stood += sum(turn.ends > 0 for turn in turns)
    assert stood > 30


def test_two_at_a_time_by_hand() -> None:
    """Answers of 3, 5, 3 and 5 tokens: who begins at an answer joins a second later."""
    rows = [(0, 0.0, np.nan, 3), (1, 0.0, np.nan, 5), (2, np.nan, 0.0, 3), (3, np.nan, 0.0, 5)]
    requests, router = by_hand(rows)
    np.testing.assert_allclose(requests["arrival_s"], [0, 0, 3, 5])
    np.testing.assert_allclose(requests["finish_s"], [3, 5, 7, 11])
    assert router["sessions_ended"] == 4


def test_no_more_are_open_than_stated() -> None:
    scenario = small(workload={**WORKLOAD, "wave": 2, "max_concurrency": 4})
    env = gym.make("gpuyard/Routing-v0", scenario=scenario).unwrapped
    first = episode(env, 0)
    table = env.results()["requests"]
    whose = [table["session"] == s for s in range(10)]
    begins = np.array([table["arrival_s"][rows].min() for rows in whose])
    ends = np.sort([table["finish_s"][rows].max() for rows in whose])
    np.testing.assert_array_equal(begins[:4], [0.0, 0.0, 3.0, 3.0])  # in waves of two
    np.testing.assert_array_equal(begins[4:], ends[:6])  # who ends lets the next one begin
    assert first[1]["sessions_ended"] == 10 and episode(env, 0) == first
    assert table["arrival_s"].tobytes() == env.results()["requests"]["arrival_s"].tobytes()


def test_the_sessions_are_those_of_any_number_at_once() -> None:
    one, all_of_them = (
        sessions.preset("agentic", sessions=9, max_concurrency=most).sample(
            np.random.default_rng(0)
        )
        for most in (1, 0)
    )
    assert one.prefix_ids.tobytes() == all_of_them.prefix_ids.tobytes()
    assert one.output_tokens.tobytes() == all_of_them.output_tokens.tobytes()
    np.testing.assert_array_equal(np.isfinite(one.arrival_s).nonzero()[0], [0])
    np.testing.assert_array_equal(one.think_s[1:9], 0.0)


def test_recorded_sessions_stand_in_line(tmp_path) -> None:
    rows = [
        {"session": s, "turn": t, "new_tokens": 20, "output_tokens": 9, "tool_s": 1.0}
        for s in range(5)
        for t in range(2)
    ]
    path = turns_file(tmp_path / "t.jsonl", rows)
    stream = recorded(path, max_concurrency=3).sample(np.random.default_rng(0))
    np.testing.assert_array_equal(stream.arrival_s, [0, 0, 0] + [np.nan] * 7)
    np.testing.assert_array_equal(stream.think_s, [np.nan] * 3 + [0, 0] + [1] * 5)
    for changes, said in (
        ({"starts": "trace"}, "workload.max_concurrency = 3 lets sessions begin when others end"),
        ({"steps": {"count": 2}}, "max_concurrency = 3 is not modelled with steps.count = 2"),
    ):
        with pytest.raises(ScenarioError, match=said):
            recorded(path, max_concurrency=3, **changes)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"max_concurrency": -1}, r"max_concurrency = -1 must be a whole number in \[0, 65536\]"),
        ({"max_concurrency": 2.5}, r"max_concurrency = 2.5 must be a whole number"),
        ({"max_concurrency": 2, "steps": {"count": 2}}, "is not modelled with steps.count = 2"),
    ],
)
def test_what_does_not_fit_is_refused(table, said) -> None:
    with pytest.raises(ScenarioError, match=said):
        small(workload={**WORKLOAD, **table})
