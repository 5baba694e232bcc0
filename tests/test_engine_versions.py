"""What versions of an engine differ in, worked out by hand: naive reference and compiled engine."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from engine_worlds import engine_world
from reference_kv import Request
from reference_serving import simulate
from reference_steps import ReplicaSpec, Result

import gpuyard  # noqa: F401
from gpuyard.envs.engine.core.records import START, STEP
from gpuyard.envs.perf.serving.cost_table import COST, CostTable
from gpuyard.envs.scenario import from_dict
from gpuyard.envs.workload.requests.stream import RequestStream

LIMITS = {"max_num_seqs": 8, "max_num_batched_tokens": 64, "kv_blocks": 100}


def cost_table(**terms: float) -> CostTable:
    """A step costs 10 ms on the GPU, plus 1 ms per token, plus the named terms."""
    coefficients = np.zeros((), COST)
    for name, value in terms.items():
        coefficients[name] = value
    linear = 0.01 + 0.001 * np.arange(513.0)
    linear[0] = 0.0
    return CostTable(coefficients[()], linear, np.zeros(65))


def serve(requests: list[tuple[float, int, int]], spec: dict[str, Any], **terms: float) -> Result:
    """Serve requests (arrival, prompt, output) by both, which have to agree; returns the result."""
    replica, table = ReplicaSpec(**{**LIMITS, **spec}), cost_table(**terms)
    n = len(requests)
    result = simulate([replica], [table], [Request(*request) for request in requests], [0] * n)
    arrival, prompt, output = (np.array(column) for column in zip(*requests, strict=True))
    stream = RequestStream(
        arrival_s=arrival.astype(float),
        prompt_tokens=prompt.astype(np.int32),
        output_tokens=output.astype(np.int32),
        max_tokens=output.astype(np.int32),
        session=np.full(n, -1, np.int32),
        prefix_offsets=np.zeros(n + 1, np.int64),
        prefix_ids=np.zeros(0, np.int32),
        prefix_block_tokens=0,
        priority=np.zeros(n, np.float32),
    )
    world = engine_world([replica], [table], stream)
    outputs = world.outputs()
    for command in (START, *(STEP for _ in requests)):
        world.run(np.array([command]), np.zeros(1, np.int64), outputs)
    rows = world.state["requests"][0]
    for name in ("first_token_s", "finish_s"):
        np.testing.assert_allclose(rows[name], getattr(result, name), rtol=1e-9)
    assert rows["preemptions"].tolist() == result.preemptions
    return result


def test_with_lag_an_arrival_waits_for_one_step_more() -> None:
    # A: 20 tokens until 30 ms, then alone until 41 ms. B came at 5 ms, within the first step, when
    # the second was planned already: it is in the third with A, 10 + 1 tokens until 62 ms.
    requests = [(0.0, 20, 4), (0.005, 10, 1)]
    late = serve(requests, {"lag": True})
    assert late.first_token_s == pytest.approx([0.030, 0.062])
    assert late.finish_s == pytest.approx([0.073, 0.062])
    soon = serve(requests, {})
    assert soon.first_token_s == pytest.approx([0.030, 0.051])


def test_with_lag_a_run_of_decodes_goes_on_for_one_step_more() -> None:
    # A's steps end at 30, 41, 52, 63, 74 ... ms. B comes at 45 ms, in the step until 52 ms, and is
    # in the step that starts at 63 ms.
    requests = [(0.0, 20, 50), (0.045, 10, 1)]
    assert serve(requests, {"lag": True}).first_token_s[1] == pytest.approx(0.063 + 0.021)
    assert serve(requests, {}).first_token_s[1] == pytest.approx(0.052 + 0.021)


def test_lag_does_not_hold_up_who_finds_nothing_running() -> None:
    # A ends with its prompt at 30 ms; B, there since 5 ms, starts then; C finds an idle replica
    result = serve([(0.0, 20, 1), (0.005, 10, 1), (1.0, 10, 1)], {"lag": True})
    assert result.finish_s == pytest.approx([0.030, 0.050, 1.020])


def test_a_front_end_delays_every_request() -> None:
    # at the engine 8 ms later: A's steps end at 38, 49, 60 ms. B, sent at 35 ms, comes at 43 ms
    requests = [(0.0, 20, 5), (0.035, 10, 1)]
    result = serve(requests, {"frontend_s": 0.008})
    assert result.first_token_s == pytest.approx([0.038, 0.049 + 0.021])
    lagging = serve(requests, {"frontend_s": 0.008, "lag": True})
    assert lagging.first_token_s == pytest.approx([0.038, 0.060 + 0.021])


def test_a_step_takes_the_longer_of_host_and_gpu() -> None:
    # host 20 ms and 1 ms per sampling sequence: the prompt takes the GPU 30 ms, two decodes 12 ms
    result = serve([(0.0, 10, 3), (0.0, 10, 3)], {}, host_s=0.020, host_seq_s=0.001)
    assert result.finish_s == pytest.approx([0.030 + 2 * 0.022] * 2)


def test_the_gpu_overtakes_the_host_within_a_run() -> None:
    # decodes over 12, 13, ... tokens take the GPU 23, 24, 25, 26, 27 ms, the host 25 ms always
    result = serve([(0.0, 12, 6)], {}, host_s=0.025, dec_token_s=0.001)
    assert result.first_token_s == pytest.approx([0.025])
    assert result.finish_s == pytest.approx([0.025 + 0.025 * 3 + 0.026 + 0.027])


def test_admission_asks_for_the_whole_prompt_or_for_a_chunk() -> None:
    # 8 blocks; A holds 2 and soon 3, B's 112 tokens need 7. By chunks B starts beside A (74 ms),
    # finds no block for its second chunk and is preempted (85 ms), starts again with 63 tokens
    # beside A's last decode (159 ms) and ends with the other 49. Waiting costs it less.
    requests = [(0.0, 32, 3), (0.0, 112, 1)]
    chunked = serve(requests, {"kv_blocks": 8})
    assert chunked.preemptions == [0, 1]
    assert chunked.finish_s == pytest.approx([0.159, 0.218])
    whole = serve(requests, {"kv_blocks": 8, "whole_prompt": True})
    assert whole.preemptions == [0, 0]
    assert whole.finish_s == pytest.approx([0.064, 0.064 + 0.074 + 0.058])


def test_only_the_chunk_of_an_admitted_prompt_is_taken() -> None:
    result = serve([(0.0, 112, 1)], {"kv_blocks": 8, "whole_prompt": True})
    assert [step.during.held_blocks for step in result.steps[0]] == [4, 7]


def test_a_window_fills_and_grows_no_more() -> None:
    # blocks of 16 tokens: one of full attention each, in each of two window groups two at most,
    # and three of states: 1 + 2 + 3, from token 17 on 2 + 4 + 3, from 33 on 3 + 4 + 3
    spec = {"window_groups": 2, "window_blocks": 2, "state_blocks": 3}
    steps = serve([(0.0, 16, 19)], spec).steps[0]
    assert [step.during.held_blocks for step in steps] == [6, *[9] * 16, *[10] * 2]


def test_windows_count_when_blocks_run_out() -> None:
    # 12 blocks; A and B hold 4 each (16 tokens, three window groups), and want 4 more at the first
    # decode: A gets them, B is preempted although one block a sequence would have been there
    spec = {"kv_blocks": 12, "window_groups": 3, "window_blocks": 9}
    result = serve([(0.0, 16, 3), (0.0, 16, 3)], spec)
    assert result.preemptions == [0, 1]
    assert serve([(0.0, 16, 3), (0.0, 16, 3)], {"kv_blocks": 12}).preemptions == [0, 0]


TIGHT = {  # prompts of a tenth of the cache and more, an arrival rate just below what is served
    "replicas": [
        {
            **{"gpu": "L40S", "model": "Llama-3-8B", "count": 2, "kv_blocks": 1500},
            **{"max_num_seqs": 128, "max_num_batched_tokens": 1024},
        }
    ],
    "workload": {
        **{"preset": "mooncake-conv", "num_requests": 150},
        **{"rate_per_s": 1.2, "max_tokens": 12_288},
    },
}


def round_robin(table: dict[str, Any], engine: str) -> dict[str, Any]:
    """Play an episode on replicas of one engine; returns the last info."""
    replicas = [{**row, "engine": engine} for row in table["replicas"]]
    env = gym.make("gpuyard/Routing-v0", scenario=from_dict({**table, "replicas": replicas}))
    obs, info = env.reset(seed=0)
    done, turn = False, 0
    while not done:
        fitting = np.flatnonzero(obs["action_mask"])
        obs, _, done, _, info = env.step(fitting[turn % len(fitting)])
        turn += 1
    return info


def thrashes_by_chunks_only(table: dict[str, Any]) -> None:
    whole, chunked = (round_robin(table, engine) for engine in ("vllm-0.19", "vllm-0.15"))
    assert whole["preemptions"] <= 15
    assert chunked["preemptions"] > 500
    assert whole["ttft_mean_s"] < chunked["ttft_mean_s"] / 2


def test_chunked_admission_thrashes_and_the_newer_rule_does_not() -> None:
    thrashes_by_chunks_only(TIGHT)


def test_the_reported_case_no_longer_thrashes(data_dir: Path) -> None:
    path = data_dir.parent / "cases" / "serving" / "chunk_admission.toml"
    if not path.exists():
        pytest.skip(f"{path} not found: the reported cases are not part of the repository")
    thrashes_by_chunks_only(tomllib.loads(path.read_text("utf-8")))
