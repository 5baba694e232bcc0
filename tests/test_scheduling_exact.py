"""Ways to batch, order and reserve: the compiled engine against the naive reference."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from engine_worlds import cost_table, random_spec, random_stream, reference_requests
from reference_serving import simulate
from reference_steps import Result
from test_engine_exact import same_events, served

from gpuyard.envs.world import World

RESERVATIONS = ("contiguous", "contiguous-pow2", "contiguous-oracle")
ORDERS = ("priority", "lpm", "hrrn")


def run_both(seed: int, grid_s: float = 0.0, **switches: Any) -> tuple[Result, World]:
    """Serve a random world of one to three replicas with these switches by both."""
    rng = np.random.default_rng(seed)
    contiguous = switches.get("reserves", "paged") != "paged"
    unit = 0 if contiguous else int(rng.choice([0, 16, 32]))
    specs = []
    for _ in range(int(rng.integers(1, 4))):
        lag, frontend, windows = rng.random(3) < 0.5
        spec = random_spec(rng, unit, rng.random() < 0.5, lag, frontend, windows and not contiguous)
        changes: dict[str, Any] = dict(switches)
        if contiguous:
            changes["kv_blocks"] = max(spec.kv_blocks, 64)  # one request of 600 tokens
        if not switches.get("chunked", True):
            changes["max_num_batched_tokens"] = spec.max_num_batched_tokens + 600
        if not switches.get("chunked", True) or switches.get("prefill_first"):
            changes["whole_prompt"] = True
        specs.append(replace(spec, **changes))
    tables = [cost_table(rng, True, spec) for spec in specs]
    stream = random_stream(rng, int(rng.integers(5, 60)), unit)
    priority = rng.choice([0.0, 0.5, 1.0], len(stream)).astype(np.float32)
    stream = replace(stream, priority=priority)
    if grid_s:
        stream = replace(stream, arrival_s=np.ceil(stream.arrival_s / grid_s) * grid_s)
    assignment = rng.integers(0, len(specs), len(stream))
    expected = simulate(specs, tables, reference_requests(stream), list(assignment))
    return expected, served(specs, tables, stream, assignment)


@pytest.mark.parametrize("grid_s", [0.0, 0.2])
@pytest.mark.parametrize("reserves", RESERVATIONS)
@pytest.mark.parametrize("seed", range(8))
def test_contiguous_reservation(seed: int, reserves: str, grid_s: float) -> None:
    expected, world = run_both(seed, grid_s, reserves=reserves)
    same_events(expected, world)
    assert not any(expected.preemptions)  # nothing grows


@pytest.mark.parametrize("grid_s", [0.0, 0.2])
@pytest.mark.parametrize("reserves", RESERVATIONS)
@pytest.mark.parametrize("wait_s", [0.0, 0.15, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_batches_as_wholes(seed: int, wait_s: float, reserves: str, grid_s: float) -> None:
    way = {"batching": "dynamic" if wait_s else "static", "batch_wait_s": wait_s}
    same_events(*run_both(seed, grid_s, reserves=reserves, chunked=False, **way))


@pytest.mark.parametrize("grid_s", [0.0, 0.2])
@pytest.mark.parametrize("prefill_first", [False, True])
@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("seed", range(100, 110))
def test_prompts_whole_and_first(
    seed: int, chunked: bool, prefill_first: bool, grid_s: float
) -> None:
    same_events(*run_both(seed, grid_s, chunked=chunked, prefill_first=prefill_first))


@pytest.mark.parametrize("policy", ["fcfs", *ORDERS])
@pytest.mark.parametrize("threshold", [7, 40])
@pytest.mark.parametrize("grid_s", [0.0, 0.2])
@pytest.mark.parametrize("seed", range(400, 406))
def test_long_prompts_under_a_threshold(
    seed: int, grid_s: float, threshold: int, policy: str
) -> None:
    same_events(*run_both(seed, grid_s, threshold=threshold, policy=policy))


@pytest.mark.parametrize("policy", ORDERS)
@pytest.mark.parametrize("prefill_first", [False, True])
@pytest.mark.parametrize("grid_s", [0.0, 0.2])
@pytest.mark.parametrize("seed", range(200, 212))
def test_orders(seed: int, grid_s: float, prefill_first: bool, policy: str) -> None:
    same_events(*run_both(seed, grid_s, policy=policy, prefill_first=prefill_first))


@pytest.mark.parametrize("policy", ORDERS)
@pytest.mark.parametrize("seed", range(300, 304))
def test_orders_with_contiguous_chunks_and_whole_prompts(seed: int, policy: str) -> None:
    same_events(*run_both(seed, reserves="contiguous-pow2", chunked=False, policy=policy))
