"""Steps of rollouts with new weights between them, and sessions that start others: exactness."""

from __future__ import annotations

import numpy as np
import pytest
from engine_worlds import cost_table, engine_world, random_spec, reference_requests
from reference_sessions import simulate_sessions
from session_worlds import random_sessions, rollouts_of, waits, with_forks, with_steps
from test_session_exact import play

from gpuyard.envs.workload.requests.steps import Steps

FEATURES = ({}, {"lag": True}, {"frontend": True}, {"whole_prompt": True, "lag": True})


def both(seed: int, features: dict[str, bool], forked: bool, in_steps: bool):
    rng = np.random.default_rng(seed)
    unit = int(rng.choice([0, 16, 32]))
    specs = [random_spec(rng, unit, **features) for _ in range(int(rng.integers(1, 4)))]
    tables = [cost_table(rng, True, spec) for spec in specs]
    count = int(rng.integers(2, 5)) if in_steps else 1
    own, subs = count * int(rng.integers(2, 9)), int(rng.integers(1, 9)) if forked else 0
    stream = random_sessions(rng, own + subs, unit)
    if forked:
        stream = with_forks(rng, stream, subs)
        own = int(np.isnan(stream.think_s).sum())
        count = count if own % count == 0 else 1
    if in_steps and count > 1:
        next_at, update_s = rng.choice([1.0, 0.9, 0.5]), rng.choice([0.0, 0.01, 0.5, 3.0])
        stream = with_steps(stream, Steps(count, float(next_at), float(update_s), seed % 2 == 0))
    assignment = rng.integers(0, len(specs), len(stream))
    world = engine_world(specs, tables, stream)
    play(world, assignment)
    rollouts = rollouts_of(stream) if stream.steps else None
    requests = reference_requests(stream)
    return world, rollouts, simulate_sessions(
        specs, tables, requests, waits(stream), list(assignment), rollouts
    )


@pytest.mark.parametrize("features", FEATURES, ids=lambda has: "+".join(has) or "plain")
@pytest.mark.parametrize("kind", [(True, False), (False, True), (True, True)])
def test_turns_arrive_and_end_when_the_reference_says(features, kind) -> None:
    steps = stale = forked = 0
    for seed in range(12):
        world, rollouts, (expected, arrival_s) = both(seed, features, *kind)
        got, router = world.state["requests"][0], world.state["router"][0]
        np.testing.assert_allclose(got["arrival_s"], arrival_s, rtol=1e-9)
        np.testing.assert_array_equal(got["cached_tokens"], expected.cached_tokens)
        np.testing.assert_array_equal(got["preemptions"], expected.preemptions)
        np.testing.assert_allclose(got["first_token_s"], expected.first_token_s, rtol=1e-9)
        np.testing.assert_allclose(got["finish_s"], expected.finish_s, rtol=1e-9)
        assert router["unknown"] == router["due"] == 0
        assert router["sessions_ended"] == router["sessions"]
        if rollouts:
            assert router["step"] + 1 == len(rollouts.begun_s)
            assert router["stale_sessions"] == rollouts.stale
            steps, stale = steps + len(rollouts.begun_s), stale + rollouts.stale
        forked += int((got["num_forks"] > 0).sum())
    assert forked > 12 or not kind[0]
    assert (steps > 30 and stale > 10) or not kind[1]
