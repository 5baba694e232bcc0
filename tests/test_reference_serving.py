"""The naive reference itself, against cases worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from reference_kv import Request
from reference_serving import simulate
from reference_steps import Counts, ReplicaSpec, Result, observe, step_cost_s

from gpuyard.envs.perf.serving.cost_table import COST, CostTable

SPEC = ReplicaSpec(max_num_seqs=8, max_num_batched_tokens=64, kv_blocks=100, block_size=16)


def cost_table(per_token_s: float = 0.001, per_sample_s: float = 0.0, **terms: float) -> CostTable:
    """A step costs 10 ms, plus 1 ms per token, plus the named terms."""
    coefficients = np.zeros((), COST)
    for name, value in terms.items():
        coefficients[name] = value
    linear = 0.01 + per_token_s * np.arange(4097.0)
    linear[0] = 0.0
    return CostTable(coefficients[()], linear, per_sample_s * np.arange(513.0))


def serve(
    requests: list[Request], spec: ReplicaSpec = SPEC, cost: CostTable | None = None
) -> Result:
    return simulate([spec], [cost or cost_table()], requests, [0] * len(requests))


def test_one_request_is_prefill_in_chunks_then_one_token_per_step() -> None:
    # 64 + 36 prompt tokens: 74 ms + 46 ms; then two decodes of 11 ms
    result = serve([Request(1.0, 100, 3)])
    assert result.first_token_s == pytest.approx([1.120])
    assert result.finish_s == pytest.approx([1.142])
    assert [kind for _, kind, _ in result.events] == ["admit", "first_token", "finish"]


def test_a_single_output_token_finishes_with_the_prefill() -> None:
    result = serve([Request(0.0, 10, 1)])
    assert result.first_token_s == result.finish_s == pytest.approx([0.020])


def test_decodes_come_first_and_the_chunk_takes_the_rest_of_the_budget() -> None:
    # A: 20 tokens, 0 to 30 ms. B (arrives at 5 ms) waits for the boundary at 30 ms; the budget
    # leaves it 63 tokens beside A's decode (74 ms), then 7 (18 ms): A's tokens at 30, 104, 122 ms.
    result = serve([Request(0.0, 20, 3), Request(0.005, 70, 1)])
    assert result.first_token_s == pytest.approx([0.030, 0.122])
    assert result.finish_s == pytest.approx([0.122, 0.122])


def test_an_arrival_on_the_boundary_joins_the_step_that_starts_there() -> None:
    requests = [Request(0.0, 20, 2), Request(0.03, 10, 1)]
    assert serve(requests).finish_s == pytest.approx([0.051, 0.051])


def test_the_sequence_cap_makes_the_third_request_wait() -> None:
    spec = ReplicaSpec(2, 64, 100)
    result = serve([Request(0.0, 10, 2)] * 3, spec)
    # two prefills 30 ms, two decodes 12 ms, third prefill 20 ms, its decode 11 ms
    assert result.first_token_s == pytest.approx([0.030, 0.030, 0.062])
    assert result.finish_s == pytest.approx([0.042, 0.042, 0.073])


def test_no_room_for_a_new_block_preempts_the_last_admitted() -> None:
    # 3 blocks; A and B hold one full block each (16 tokens). Both want a second one at the first
    # decode: A takes the third block, B is preempted with its one token kept, and resumes with
    # 17 known tokens (2 blocks) when A, whose 16 + 2 tokens hold 2 blocks, has finished.
    spec = ReplicaSpec(8, 64, 3)
    result = serve([Request(0.0, 16, 3), Request(0.0, 16, 3)], spec)
    kinds = [(round(time, 6), kind, who) for time, kind, who in result.events]
    assert kinds == [
        (0.0, "admit", 0),
        (0.0, "admit", 1),
        (0.042, "first_token", 0),
        (0.042, "first_token", 1),
        (0.042, "preempt", 1),
        (0.064, "finish", 0),  # two decodes alone, 11 ms each
        (0.064, "admit", 1),
        (0.102, "finish", 1),  # 17 tokens: 27 ms, its second token; then 11 ms
    ]
    assert result.preemptions == [0, 1]


def test_blocked_head_blocks_the_queue_behind_it() -> None:
    spec = ReplicaSpec(8, 64, 4)
    result = serve([Request(0.0, 32, 2), Request(0.0, 48, 1), Request(0.0, 1, 1)], spec)
    # budget 64 takes A whole and 32 tokens of B into the last 2 blocks; B's rest has no block while
    # A decodes into a third: A's decode preempts B, C waits behind it
    assert [kind for _, kind, who in result.events if who == 1][:3] == ["admit", "preempt", "admit"]
    assert result.first_token_s[2] == result.first_token_s[1]


def test_a_repeated_prompt_hits_all_whole_units_but_the_last_token() -> None:
    spec = ReplicaSpec(8, 64, 100, 16, prefix_block_tokens=16)
    twice = [Request(0.0, 32, 1, (7, 8)), Request(1.0, 32, 1, (7, 8)), Request(2.0, 33, 1, (7, 8))]
    result = serve(twice, spec)
    assert result.cached_tokens == [0, 16, 32]
    assert result.finish_s == pytest.approx([0.042, 1.026, 2.011])


def test_a_hit_works_within_the_step_that_computes_it() -> None:
    spec = ReplicaSpec(8, 64, 100, 16, prefix_block_tokens=16)
    result = serve([Request(0.0, 17, 1, (7,)), Request(0.0, 20, 1, (7,))], spec)
    assert result.cached_tokens == [0, 16]
    assert result.finish_s == pytest.approx([0.031, 0.031])  # 17 + 4 tokens


def test_output_units_are_cached_when_the_request_finishes() -> None:
    # 16 + 17 tokens, of which 32 are computed: units 7 and 8; the next turn brings both and more
    spec = ReplicaSpec(8, 64, 100, 16, prefix_block_tokens=16)
    result = serve([Request(0.0, 16, 17, (7, 8)), Request(9.0, 50, 1, (7, 8, 9))], spec)
    assert result.cached_tokens == [0, 32]
    shorter = serve([Request(0.0, 16, 16, (7, 8)), Request(9.0, 50, 1, (7, 8, 9))], spec)
    assert shorter.cached_tokens == [0, 16]


def test_the_deepest_unit_is_evicted_first() -> None:
    # A leaves units 1, 2 in the 4 blocks. B takes 3 blocks: two unused, then unit 2, the deepest.
    spec = ReplicaSpec(8, 64, 4, 16, prefix_block_tokens=16)
    requests = [
        Request(0.0, 32, 1, (1, 2)),
        Request(1.0, 40, 1, (5, 6)),
        Request(2.0, 33, 1, (1, 2)),
    ]
    assert serve(requests, spec).cached_tokens == [0, 0, 16]


def test_a_unit_of_two_blocks_goes_as_a_whole() -> None:
    # A caches units 1 and 2 (2 blocks each) of 5 blocks. B needs 2: the plain one, one of unit 2.
    spec = ReplicaSpec(8, 64, 5, 16, prefix_block_tokens=32)
    requests = [Request(0.0, 64, 1, (1, 2)), Request(1.0, 20, 1), Request(2.0, 65, 1, (1, 2))]
    assert serve(requests, spec).cached_tokens == [0, 0, 32]


def test_cost_is_the_formula_of_the_cost_table() -> None:
    table = cost_table(
        per_sample_s=2.0,
        dec_fixed_s=1.0,
        dec_log_s=10.0,
        dec_seq_s=100.0,
        dec_flop_s=3.0,
        dec_token_s=1.0,
        dec_row_s=1000.0,
        pre_fixed_s=0.5,
        pre_flop_s=1e-3,
        pre_pad=2.0,
        pre_query_s=0.01,
    )
    decode = 1 + 10 * 1 + 100 * 2 + ((3 * 2048) ** 3 + (2048 + 2000) ** 3) ** (1 / 3)
    prefill = 0.5 + ((1e-3 * 8 * (4 + 5)) ** 3 + 0.08**3) ** (1 / 3)
    linear = 0.01 + 0.001 * 10
    assert step_cost_s(table, [1000, 1048], [(8, 4)], 2) == pytest.approx(
        linear + 4 + decode + prefill, rel=1e-12
    )
    assert step_cost_s(table, [], [(8, 4)], 0) == pytest.approx(0.018 + prefill, rel=1e-12)


def test_decodes_beside_a_prompt_cost_by_the_mixed_formula() -> None:
    terms = {"mix_seq_s": 0.1, "mix_cell_s": 1e-3, "mix_token_s": 1e-4, "dec_fixed_s": 1.0}
    table = cost_table(**terms)
    mixed = (0.1 + 1e-3 * 12) * 2 + 1e-4 * 2048
    assert step_cost_s(table, [1000, 1048], [(8, 4), (4, 0)], 2) == pytest.approx(0.024 + mixed)
    assert step_cost_s(table, [1000], [], 1) == pytest.approx(0.011 + 1.0)


def test_replicas_are_independent() -> None:
    requests = [Request(0.0, 20, 3), Request(0.005, 70, 1)]
    both = simulate([SPEC, SPEC], [cost_table(), cost_table()], requests, [1, 0])
    assert both.finish_s[0] == serve(requests[:1]).finish_s[0]
    assert both.finish_s[1] == pytest.approx(0.005 + 0.074 + 0.016)


def test_observation_at_a_time() -> None:
    result = serve([Request(0.0, 20, 3), Request(0.005, 70, 1)])
    steps, arrivals = result.steps[0], [0.0, 0.005]
    assert observe(steps, [], 100, 0.0) == Counts(0, 0, 0, 100)
    assert observe(steps, arrivals, 100, 0.010) == Counts(1, 1, 2, 98)
    assert observe(steps, arrivals, 100, 0.031) == Counts(2, 0, 6, 94)  # 21 and 63 tokens
    assert observe(steps, arrivals, 100, 1.0) == Counts(0, 0, 0, 100)


@pytest.mark.parametrize(
    ("requests", "message"),
    [
        ([Request(0.0, 1600, 1)], "never fit"),
        ([Request(0.0, 0, 1)], "at least one token"),
        ([Request(1.0, 1, 1), Request(0.0, 1, 1)], "arrives before"),
    ],
)
def test_bad_requests_are_refused(requests: list[Request], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        serve(requests)
