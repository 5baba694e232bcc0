"""Switches of a replica's scheduler: by hand, what is refused, and the published effects."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from engine_worlds import engine_world, reference_requests
from reference_serving import simulate
from reference_steps import ReplicaSpec, Result
from scenario_tables import REPLICA
from technique_batching import chunk_cost, gap_over_prefill, kv_rows, order_rows, static_rows
from test_engine_exact import same_events, served
from test_engine_versions import LIMITS, cost_table

from gpuyard.envs.engine.core.records import START, STEP
from gpuyard.envs.scenario import ScenarioError, from_dict
from gpuyard.envs.workload.requests.stream import RequestStream

WHOLE = {"chunked": False, "whole_prompt": True}
STATIC = {**WHOLE, "batching": "static", "reserves": "contiguous"}


def stream_of(requests: list[tuple[float, int, int]], **columns: list[Any]) -> RequestStream:
    """Return requests (arrival, prompt, output), with prefix ids of one block each if given."""
    arrival, prompt, output = (np.array(column) for column in zip(*requests, strict=True))
    ids = columns.get("ids", [[] for _ in requests])
    n = len(requests)
    return RequestStream(
        arrival_s=arrival.astype(float),
        prompt_tokens=prompt.astype(np.int32),
        output_tokens=output.astype(np.int32),
        max_tokens=np.array(columns.get("max_tokens", output), np.int32),
        session=np.full(n, -1, np.int32),
        prefix_offsets=np.cumsum([0, *map(len, ids)]),
        prefix_ids=np.array([i for row in ids for i in row], np.int32),
        prefix_block_tokens=16 if "ids" in columns else 0,
        priority=np.array(columns.get("priority", [0.0] * n), np.float32),
    )


def serve(stream: RequestStream, **spec: Any) -> Result:
    """Serve requests by both, which have to agree; a step takes 10 ms and 1 ms per token."""
    replica, table = ReplicaSpec(**{**LIMITS, **spec}), cost_table()
    nobody = [0] * len(stream)
    result = simulate([replica], [table], reference_requests(stream), nobody)
    same_events(result, served([replica], [table], stream, nobody))
    return result


# -- by hand -------------------------------------------------------------------------------------


def test_a_whole_prompt_first_delays_decodes_by_its_own_time() -> None:
    # A's tokens come at 20, 31, 42, 53 ms. B came at 45: its prompt alone takes 50 ms until 103,
    # and A's next tokens come at 114 and 125. Decodes first, one step of 41 tokens serves both.
    stream = stream_of([(0.0, 10, 6), (0.045, 40, 1)])
    first = serve(stream, prefill_first=True, **WHOLE)
    assert first.first_token_s == pytest.approx([0.020, 0.103])
    assert first.finish_s == pytest.approx([0.125, 0.103])
    alone = serve(stream_of([(0.0, 10, 6)]), prefill_first=True, **WHOLE)
    assert first.finish_s[0] - alone.finish_s[0] == pytest.approx(0.010 + 0.040, rel=1e-9)
    mixed = serve(stream)
    assert mixed.finish_s == pytest.approx([0.115, 0.104])


def test_without_chunks_a_prompt_waits_for_a_budget_that_holds_it() -> None:
    # 64 tokens a step: A's 40 leave 24, in which B's 30 begin (74 ms) and end in the next step; or
    # B waits, and is in the step of A's second token, 10 + 1 + 30 ms
    stream = stream_of([(0.0, 40, 2), (0.0, 30, 1)])
    assert serve(stream).first_token_s == pytest.approx([0.074, 0.074 + 0.017])
    assert serve(stream, **WHOLE).first_token_s == pytest.approx([0.050, 0.050 + 0.041])


def test_a_threshold_lets_a_short_prompt_pass_a_long_one() -> None:
    # steps of 64 tokens; A's 100 take 64 and 36: B's 10 begin with the latter. With 32 at most for
    # A, B is in the first step of 42 tokens, and A needs four
    stream = stream_of([(0.0, 100, 1), (0.0, 10, 1)])
    assert serve(stream).first_token_s == pytest.approx([0.074 + 0.056] * 2)
    capped = serve(stream, threshold=32)
    assert capped.first_token_s == pytest.approx([0.052 + 2 * 0.042 + 0.014, 0.052])


def test_a_static_batch_runs_padded_until_its_longest_is_done() -> None:
    # A and B: prompts of 20 each, 50 ms; then four steps of two tokens, although A has three in
    # all. C came at 1 ms and waits for both.
    result = serve(stream_of([(0.0, 10, 3), (0.0, 20, 5), (0.001, 5, 1)]), **STATIC)
    assert result.first_token_s == pytest.approx([0.050, 0.050, 0.098 + 0.015])
    assert result.finish_s == pytest.approx([0.098, 0.098, 0.113])
    continuous = serve(
        stream_of([(0.0, 10, 3), (0.0, 20, 5), (0.001, 5, 1)]), reserves="contiguous"
    )
    assert continuous.finish_s[2] == pytest.approx(0.040 + 0.017)


def test_a_static_batch_holds_as_many_as_its_chunks_fit() -> None:
    # 12 blocks: chunks of 64 tokens are 4 blocks, three of them; the fourth is another batch
    stream = stream_of([(0.0, 10, 2)] * 4, max_tokens=[54] * 4)
    result = serve(stream, kv_blocks=12, **STATIC)
    assert result.first_token_s == pytest.approx([0.040] * 3 + [0.053 + 0.020])
    budget = serve(stream, max_num_batched_tokens=25, **STATIC)  # two prompts of 10 tokens
    assert budget.first_token_s == pytest.approx([0.030] * 2 + [0.042 + 0.030] * 2)


def test_a_dynamic_batch_waits_for_others_or_until_it_is_full() -> None:
    stream = stream_of([(0.0, 10, 1), (0.020, 10, 1), (0.2, 10, 1)])
    dynamic = {**STATIC, "batching": "dynamic", "batch_wait_s": 0.030}
    assert serve(stream, **dynamic).finish_s == pytest.approx([0.060, 0.060, 0.250])
    full = serve(stream, max_num_seqs=2, **dynamic)
    assert full.finish_s == pytest.approx([0.050, 0.050, 0.250])


@pytest.mark.parametrize(
    ("reserves", "blocks"),
    [("paged", 2), ("contiguous", 8), ("contiguous-pow2", 4), ("contiguous-oracle", 4)],
)
def test_memory_shows_what_is_reserved(reserves: str, blocks: int) -> None:
    # 30 tokens of prompt and 70 at most are 7 blocks, 8 in powers of two; 4 of output, or 3, are 3
    stream = stream_of([(0.0, 30, 3), (0.045, 1, 1)], max_tokens=[70, 1])
    spec = ReplicaSpec(**{**LIMITS, "reserves": reserves})
    result = simulate([spec], [cost_table()], reference_requests(stream), [0, 0])
    assert result.steps[0][0].during.held_blocks == blocks
    world = engine_world([spec], [cost_table()], stream)
    outputs = world.outputs()
    for command in (START, STEP):
        world.run(np.array([command]), np.zeros(1, np.int64), outputs)
    assert world.state["replicas"]["report_blocks"][0, 0] == blocks


def test_a_contiguous_request_waits_for_its_chunk_and_is_never_preempted() -> None:
    stream = stream_of([(0.0, 16, 40), (0.0, 16, 40)])
    paged = serve(stream, kv_blocks=5)
    assert paged.preemptions == [0, 1]
    result = serve(stream, kv_blocks=5, reserves="contiguous")  # chunks of 4 blocks
    assert result.preemptions == [0, 0]
    assert result.first_token_s[1] == pytest.approx(result.finish_s[0] + 0.026)


def test_priority_decides_who_is_admitted_and_who_is_preempted() -> None:
    # one seat: A runs, B and C wait; C is urgent
    waiting = stream_of([(0.0, 10, 3), (0.001, 10, 1), (0.002, 10, 1)], priority=[0.0, 0.0, 1.0])
    assert np.argsort(serve(waiting, max_num_seqs=1).finish_s).tolist() == [0, 1, 2]
    urgent = serve(waiting, max_num_seqs=1, policy="priority")
    assert np.argsort(urgent.finish_s).tolist() == [0, 2, 1]
    # four blocks: when A and B both want a third one, B came last, but A is less urgent
    tight = stream_of([(0.0, 16, 20), (0.0, 16, 20)], priority=[0.0, 1.0])
    assert serve(tight, kv_blocks=4).preemptions == [0, 1]
    assert serve(tight, kv_blocks=4, policy="priority").preemptions == [1, 0]


def test_longest_prefix_and_response_ratio() -> None:
    # one seat; C finds A's 32 tokens cached; C's 8 tokens have waited longer for what they cost
    requests = [(0.0, 33, 5), (0.001, 40, 1), (0.002, 40, 1)]
    chained = stream_of(requests, ids=[[0, 1], [], [0, 1]])
    limits = {"max_num_seqs": 1, "prefix_block_tokens": 16}
    assert np.argsort(serve(chained, **limits).finish_s).tolist() == [0, 1, 2]
    longest = serve(chained, policy="lpm", **limits)
    assert longest.cached_tokens == [0, 0, 32]
    assert np.argsort(longest.finish_s).tolist() == [0, 2, 1]
    short = stream_of([(0.0, 33, 5), (0.001, 60, 1), (0.002, 8, 1)])
    assert np.argsort(serve(short, max_num_seqs=1, policy="hrrn").finish_s).tolist() == [0, 2, 1]


# -- what is refused -----------------------------------------------------------------------------


def scenario(workload: dict[str, Any] | None = None, **fields: Any) -> Any:
    replica = {**REPLICA, **fields}
    given = {"num_requests": 8, "max_tokens": 2048, **(workload or {})}
    return from_dict({"replicas": [replica], "workload": given})


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"batching": "sometimes"}, r"batching = 'sometimes' must be one of continuous, static"),
        ({"batch_wait_ms": 5.0}, r"batch_wait_ms = 5.0: give one above 0 with batching"),
        ({"batching": "dynamic"}, r"batch_wait_ms = 0.0: give one above 0 with batching"),
        ({"batching": "static"}, r"batching = 'static': .* chunked_prefill = false"),
        ({"batching": "static", "chunked_prefill": False}, r"batching = 'static': it reserves"),
        ({"kv_reservation": "contiguous"}, r"'contiguous': .* prefix_caching = false"),
        (
            {"kv_reservation": "contiguous", "model": "DeepSeek-V2", "prefix_caching": False},
            r"kv_reservation = 'contiguous': DeepSeek-V2 has a latent cache \(MLA\)",
        ),
        (
            {"kv_reservation": "contiguous", "model": "gpt-oss-20b", "prefix_caching": False},
            r"kv_reservation = 'contiguous': gpt-oss-20b has windows or states",
        ),
        ({"scheduling_policy": "random"}, r"must be one of fcfs, priority, lpm, hrrn"),
        (
            {"chunked_prefill": False, "max_num_batched_tokens": 1024},
            r"max_num_batched_tokens = 1024 must be at least 2048, the longest request",
        ),
        (
            {"prefill_first": True, "long_prefill_token_threshold": 64},
            r"long_prefill_token_threshold = 64: it needs chunked prompts and decodes first",
        ),
        ({"prefill_first": 1}, r"prefill_first = 1 must be true or false"),
    ],
)
def test_what_does_not_go_together_is_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ScenarioError, match=said):
        scenario(**fields)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"scheduling_policy": "priority"}, 'give scheduling_policy = "fcfs"'),
        ({"prefill_first": True}, "give prefill_first = false"),
    ],
)
def test_a_batch_as_a_whole_has_no_order(fields: dict[str, Any], said: str) -> None:
    whole = {"batching": "static", "chunked_prefill": False, "prefix_caching": False}
    with pytest.raises(ScenarioError, match=said):
        scenario(**whole, kv_reservation="contiguous", **fields)


def test_a_chunk_that_no_cache_holds_is_refused() -> None:
    # 2,048 tokens are 128 blocks: 127 hold no chunk for more than 1,024
    fields = {"kv_reservation": "contiguous", "prefix_caching": False}
    scenario(kv_blocks=128, **fields)
    with pytest.raises(ScenarioError, match="the largest KV cache holds 1024"):
        scenario(kv_blocks=127, **fields)


def test_a_replica_without_prefix_cache_reuses_nothing() -> None:
    hits = []
    for caches in (True, False):
        world = scenario({"preset": "chat", "num_requests": 40}, prefix_caching=caches)
        env = gym.make("gpuyard/Routing-v0", scenario=world)
        env.reset(seed=0)
        done = False
        while not done:
            _, _, done, _, info = env.step(0)
        hits.append(info["prefix_hit_rate"])
    assert hits[0] > 0 and hits[1] == 0


# -- published effects ---------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*by analogy with")
def test_paged_blocks_over_contiguous_chunks_as_published() -> None:
    for row in kv_rows():
        assert row["low"] <= row["simulated"] <= row["high"], row


@pytest.mark.filterwarnings("ignore:.*by analogy with")
def test_continuous_over_static() -> None:
    with_paging, _, both_contiguous, light = (row["simulated"] for row in static_rows())
    assert 2 <= both_contiguous <= 20 and both_contiguous < with_paging <= 24
    assert 1 < light < both_contiguous  # the gain grows with the load


def test_what_chunks_cost_and_what_they_spare() -> None:
    assert 1 < chunk_cost() <= 1.25
    assert gap_over_prefill() == pytest.approx(1, rel=1e-3)


def test_orders_of_prompts_as_published() -> None:
    found = {row["target"]: row["simulated"] for row in order_rows()}
    assert found["mean TTFT, longest prefix over FCFS"] < 1
    assert found["mean TTFT, HRRN over longest prefix"] < 1
    assert found["P99 TTFT, longest prefix over FCFS, 100 clients"] > 1
