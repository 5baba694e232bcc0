"""Sessions that answer back whose turns are refused, expire or name adapters: to 1e-9."""

from __future__ import annotations

import math

import numpy as np
import pytest
from engine_worlds import cost_table, engine_world, random_spec, reference_requests
from reference_serving import Result
from reference_sessions import Engine, Failures, simulate_sessions
from session_worlds import in_line, last_turns, random_sessions, waits, with_forks
from test_adapters import LoraReplica
from test_refusal import ExpiringReplica

from gpuyard.envs.engine.core.records import START, STEP, records
from gpuyard.envs.engine.serving.adapters import LORA_RULES
from gpuyard.envs.engine.serving.failing import NEVER_ASKED
from gpuyard.envs.engine.serving.refusal import EXPIRED, REJECTED
from gpuyard.envs.world import World

FEATURES = ({}, {"whole_prompt": True, "frontend": True, "lag": True})


class ExpiringEngine(Engine):
    """An engine that may find nothing in its queue but what is late."""

    replica: ExpiringReplica

    def begin_step(self, now: float, seen: float) -> None:
        """Begin a step unless all of the queue was late."""
        end_s = self.replica.begin_step(now, seen)
        self.end_s = end_s if self.replica.plan else math.inf
        self.expired = self.replica.expired


def play(world: World, assignment: np.ndarray) -> list[int]:
    """Send each turn where it is to go, refuse it below 0; returns which were decided about."""
    outputs, seen = world.outputs(), []
    refuse = len(world.shared["replica_specs"])
    world.run(np.array([START]), np.zeros(1, np.int64), outputs)
    while not world.done[0]:
        seen.append(int(world.state["router"]["deciding"][0]))
        action = assignment[seen[-1]]
        world.run(np.array([STEP]), np.array([action if action >= 0 else refuse]), outputs)
    return seen


@pytest.mark.parametrize("features", FEATURES, ids=lambda has: "+".join(has) or "plain")
@pytest.mark.parametrize("kind", ["turns", "forks", "line"])
def test_a_session_ends_with_a_turn_that_nobody_serves(kind: str, features: dict) -> None:
    ends = np.zeros(4, int)
    for seed in range(8):
        rng = np.random.default_rng(seed)
        unit = int(rng.choice([0, 16, 32]))
        specs = [random_spec(rng, unit, **features) for _ in range(int(rng.integers(1, 4)))]
        tables = [cost_table(rng, True, spec) for spec in specs]
        own, subs = int(rng.integers(6, 25)), int(rng.integers(1, 9)) if kind == "forks" else 0
        stream = random_sessions(rng, own + subs, unit)
        stream = with_forks(rng, stream, subs) if kind == "forks" else stream
        stream = in_line(stream, int(rng.integers(1, own))) if kind == "line" else stream
        deadline_s = float(rng.choice([0.05, 0.3, 1.0]))
        assignment = rng.integers(0, len(specs), len(stream))
        assignment[rng.random(len(stream)) < 0.05] = -1
        world = engine_world(specs, tables, stream, deadline_s=deadline_s, may_reject=True)
        seen = play(world, assignment)

        def engine(r: int, result: Result) -> Engine:
            return ExpiringEngine(ExpiringReplica(specs[r], tables[r], result, deadline_s))  # noqa: B023

        failures = Failures(stream.session.tolist())
        expected, arrival_s = simulate_sessions(
            *(specs, tables, reference_requests(stream), waits(stream), list(assignment)),
            last=last_turns(stream) if kind == "line" else (),
            make=engine,
            failures=failures,
        )
        got, router = world.state["requests"][0], world.state["router"][0]
        asked = got["outcome"] != NEVER_ASKED
        np.testing.assert_allclose(got["arrival_s"], arrival_s, rtol=1e-9)
        np.testing.assert_array_equal(np.isnan(arrival_s), ~asked)
        np.testing.assert_allclose(got["finish_s"], expected.finish_s, rtol=1e-9)
        np.testing.assert_array_equal(got["preemptions"], expected.preemptions)
        assert sorted(seen) == np.flatnonzero(asked).tolist()  # each turn once
        unserved = np.isin(got["outcome"], (REJECTED, EXPIRED))
        assert sorted(failures.failed_s) == sorted(stream.session[unserved])  # a session fails once
        assert np.isfinite(got["finish_s"]).sum() + unserved.sum() + (~asked).sum() == len(stream)
        assert router["never_asked"] == (~asked).sum() and router["in_flight"] == 0
        assert router["unknown"] == router["due"] == 0
        assert router["sessions_ended"] == router["sessions"]
        last_s = max(failures.failed_s.values(), default=0.0)
        last_s = max(last_s, np.nanmax(got["finish_s"], initial=0.0))
        assert router["last_finish_s"] == pytest.approx(last_s, rel=1e-9)
        ends += np.bincount(got["outcome"], minlength=4)
    assert ends.min() > 5


@pytest.mark.parametrize("features", FEATURES, ids=lambda has: "+".join(has) or "plain")
def test_turns_wait_for_places_of_their_adapters(features: dict) -> None:
    loads = 0
    for seed in range(8):
        rng = np.random.default_rng(seed)
        unit = int(rng.choice([0, 16, 32]))
        spec = random_spec(rng, unit, **features)
        table, load_s = cost_table(rng, True, spec), float(rng.choice([0.0, 2e-3, 0.05]))
        stream = random_sessions(rng, int(rng.integers(5, 25)), unit)
        adapters = rng.integers(-1, 5, int(stream.session.max()) + 1)[stream.session]
        places, rules = int(rng.integers(1, 4)), records(1, LORA_RULES)
        rules["load_s"] = load_s
        world = engine_world([spec], [table], stream, lora=(rules, places))
        world.state["requests"]["adapter"][0, : len(stream)] = adapters
        play(world, np.zeros(len(stream), np.int64))
        made: list[LoraReplica] = []

        def engine(r: int, result: Result) -> Engine:
            made.append(LoraReplica(spec, table, result, adapters, places, load_s))  # noqa: B023
            return Engine(made[0])  # noqa: B023

        expected, arrival_s = simulate_sessions(
            *([spec], [table], reference_requests(stream), waits(stream), [0] * len(stream)),
            make=engine,
        )
        got = world.state["requests"][0]
        np.testing.assert_allclose(got["arrival_s"], arrival_s, rtol=1e-9)
        np.testing.assert_allclose(got["finish_s"], expected.finish_s, rtol=1e-9)
        np.testing.assert_array_equal(got["cached_tokens"], expected.cached_tokens)
        assert world.state["lora_places"][0, 0]["loads"].sum() == made[0].loads
        loads += made[0].loads
    assert loads > 50
