"""Host memory behind replicas: the engine against a naive reference, event by event."""

from __future__ import annotations

import numpy as np
import pytest
from engine_worlds import (
    cost_table,
    random_spec,
    random_stream,
    reference_requests,
)
from reference_tiers import Host, simulate_tiers
from test_engine_exact import served

from gpuyard.envs.engine.core.records import records
from gpuyard.envs.engine.serving.tier_records import REPLICA_TIERS, TIER_SPEC


def host_records(hosts: list[Host]):
    """The tiers of a world in which each replica has host memory of its own."""
    tiers, own = records(len(hosts), TIER_SPEC), records(len(hosts), REPLICA_TIERS)
    for r, host in enumerate(hosts):
        tiers["units"][r], tiers["unit_s"][r] = host.units, host.unit_s
        own["host"][r], own["store"][r], own["write_back"][r] = r, -1, host.write_back
    return tiers, own


def run_both(seed: int, write_back: bool, **features: bool):
    """Serve a random world with host memory by both, on caches that are too small."""
    rng = np.random.default_rng(seed)
    unit = int(rng.choice([16, 32, 64]))
    specs = [random_spec(rng, unit, **features) for _ in range(int(rng.integers(1, 3)))]
    tables = [cost_table(rng, True, spec) for spec in specs]
    stream = random_stream(rng, int(rng.integers(20, 60)), unit)
    hosts = [
        Host(int(rng.integers(2, 40)), float(rng.choice([1e-4, 5e-3, 5e-2])), write_back)
        for _ in specs
    ]
    assignment = rng.integers(0, len(specs), len(stream))
    expected = simulate_tiers(specs, tables, hosts, reference_requests(stream), list(assignment))
    return expected, served(specs, tables, stream, assignment, tiers=host_records(hosts))


@pytest.mark.parametrize("write_back", [False, True])
@pytest.mark.parametrize("features", [(), ("whole_prompt",), ("lag", "frontend"), ("windows",)])
def test_host_memory_gives_the_same_events(features: tuple[str, ...], write_back: bool) -> None:
    fetched_tokens, preemptions = 0, 0
    for seed in range(25):
        (expected, fetched), world = run_both(seed, write_back, **dict.fromkeys(features, True))
        got = world.state["requests"][0]
        np.testing.assert_array_equal(got["fetched_tokens"], fetched)
        np.testing.assert_array_equal(got["cached_tokens"], expected.cached_tokens)
        np.testing.assert_array_equal(got["preemptions"], expected.preemptions)
        np.testing.assert_allclose(got["first_token_s"], expected.first_token_s, rtol=1e-9)
        np.testing.assert_allclose(got["finish_s"], expected.finish_s, rtol=1e-9)
        fetched_tokens, preemptions = (
            fetched_tokens + sum(fetched),
            preemptions + sum(expected.preemptions),
        )
    assert fetched_tokens > 10_000 and preemptions > 10
