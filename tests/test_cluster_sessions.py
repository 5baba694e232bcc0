"""Sessions that answer back on a cluster whose replicas start, drain, fail and hand over."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cluster_worlds import apart, make, play, service, small

from gpuyard.envs.scenario import ScenarioError

SESSIONS = {
    **{"closed_loop": True, "preset": "agentic", "sessions": 8, "max_tokens": 2048},
    **{"wave": 3, "wave_s": 4.0, "system_tokens": 128, "turns": {"p50": 4, "p90": 8, "most": 10}},
    **{
        "prompt": {"p50": 100, "p90": 200, "most": 300},
        "new": {"p50": 60, "p90": 200, "most": 400},
    },
    **{"output": {"p50": 40, "p90": 90, "most": 200}, "tool_s": {"p50": 1, "p90": 4, "most": 9}},
}


def beside(kind: Any, **tables: Any):
    """A service of this kind that sessions use, and one whose requests come by the clock."""
    by_the_clock = {"preset": "chat", "num_requests": 20, "rate_per_s": 2.0, "max_tokens": 2048}
    return small(
        kind("agents", workload=SESSIONS), service("chat", workload=by_the_clock), **tables
    )


def test_turns_that_may_end_unserved_are_refused() -> None:
    with pytest.raises(ScenarioError, match=r"deadline_s = 2 .* leave out workload.closed_loop"):
        beside(service, router={"deadline_s": 2.0})


@pytest.mark.parametrize("kind", [service, apart])
def test_every_turn_waits_for_its_answer(kind) -> None:
    env = make(beside(kind, faults={"node_mtbf_h": 0.05, "repair_h": 0.01}))
    for seed in range(2):
        play(env, seed)
        rows = env._world.state["requests"][0][: env._world.state["router"]["num_requests"][0]]
        waits = np.isfinite(rows["think_s"])
        assert 10 < waits.sum() < len(rows) - 20 and np.isfinite(rows["finish_s"]).all()
        before = rows["previous"][waits]
        answered_s = rows["finish_s"][before]
        np.testing.assert_array_equal(rows["arrival_s"][waits], answered_s + rows["think_s"][waits])
        assert (rows["session"][before] == rows["session"][waits]).all()
        assert (rows["service"][waits] == 0).all()
        router = env._world.state["router"][0]
        assert router["sessions_ended"] == router["sessions"] == 8 + 20
        assert router["unknown"] == router["due"] == 0
