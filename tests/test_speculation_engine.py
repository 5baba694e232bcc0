"""Speculation in the engine: by hand, in the mean, and the same bytes whatever plays it."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from reference_speculation import Drafting, accepted
from test_engine_versions import serve

import gpuyard  # noqa: F401
from gpuyard.envs.perf import tabulate
from gpuyard.envs.perf.serving.drafting import decode_round_s
from gpuyard.envs.perf.serving.speculation import accepted_length
from gpuyard.envs.scenario import from_dict
from gpuyard.envs.workload.requests.source import Workload
from gpuyard.envs.workload.requests.stream import RequestStream

SURE, NEVER = 1 - 1e-12, 0.0


def drafting(rate: float, most: int = 8, **more: Any) -> Drafting:
    return Drafting(length=3, most=most, lookahead=6, low=rate, high=rate, **more)


def test_tokens_that_are_all_accepted() -> None:
    # 20 prompt tokens until 30 ms; then 4 tokens a step, each 10 + 4 ms and 1 ms for drafting. Of
    # 10 tokens 9 are left: 4, 4, and of the last step one
    result = serve([(0.0, 20, 10)], {"drafting": drafting(SURE, step_s=0.001)})
    assert result.first_token_s == pytest.approx([0.030])
    assert result.finish_s == pytest.approx([0.030 + 3 * 0.015])


def test_tokens_of_which_none_is_accepted() -> None:
    result = serve([(0.0, 20, 4)], {"drafting": drafting(NEVER, sequence_s=0.002)})
    assert result.finish_s == pytest.approx([0.030 + 3 * 0.016])


def test_no_step_drafts_in_which_too_many_decode() -> None:
    # both prompts until 50 ms; two decode, which is one too many: 12 ms a step until B has ended,
    # then A drafts: 5 tokens are left, 4 of them in the first step
    requests = [(0.0, 20, 9), (0.0, 20, 4)]
    result = serve(requests, {"drafting": drafting(SURE, most=1)})
    assert result.finish_s == pytest.approx([0.050 + 3 * 0.012 + 2 * 0.014, 0.050 + 3 * 0.012])


def test_a_prompt_beside_drafts_has_what_is_left_of_the_budget() -> None:
    # A decodes with 4 tokens of 24 while B computes 20 of its 30, then 10: steps of 34 and 24 ms
    requests = [(0.0, 20, 100), (0.031, 30, 1)]
    spec = {"drafting": drafting(NEVER), "max_num_batched_tokens": 24, "max_num_seqs": 2}
    result = serve(requests, spec)
    assert result.first_token_s[1] == pytest.approx(0.030 + 0.014 + 0.034 + 0.024)


def test_blocks_of_drafted_tokens_are_taken_and_kept() -> None:
    # 26 prompt tokens hold 2 blocks of 16; the next step has 26 + 1 + 6 tokens: 3 blocks
    result = serve([(0.0, 26, 3)], {"drafting": drafting(NEVER)})
    assert [step.during.held_blocks for step in result.steps[0]] == [2, 3, 3]
    # of 4 blocks two such requests never have 3 each: the second is preempted
    result = serve([(0.0, 26, 3), (0.0, 26, 3)], {"drafting": drafting(NEVER), "kv_blocks": 4})
    assert result.preemptions == [0, 1]


def test_what_a_request_accepts_is_drawn_by_its_rate() -> None:
    how = Drafting(length=3, most=1, lookahead=3, low=0.5, high=0.9)
    counts = [[accepted(how, 7, i, n) for n in range(100)] for i in range(1000)]
    means = 1 + np.mean(counts, axis=1)
    # 1 + 0.7 + (0.9^3 - 0.5^3) / 3 / 0.4 + (0.9^4 - 0.5^4) / 4 / 0.4
    assert means.mean() == pytest.approx(2.5743, rel=0.015)
    least, largest = accepted_length(0.5, 3), accepted_length(0.9, 3)
    assert means.min() < least + 0.15 and means.max() > largest - 0.15


REPLICA = {"gpu": "H100-SXM", "model": "Llama-3-70B", "tp": 4, "engine": "vllm-0.12"}
EAGLE = {"kind": "eagle", "draft_length": 4, "acceptance": 0.6}


def equal_requests(count: int, prompt: int, output: int, gap_s: float) -> Workload:
    lengths = np.full(count, output, np.int32)
    stream = RequestStream(
        arrival_s=gap_s * np.arange(count),
        prompt_tokens=np.full(count, prompt, np.int32),
        output_tokens=lengths,
        max_tokens=lengths,
        session=np.full(count, -1, np.int32),
        prefix_offsets=np.zeros(count + 1, np.int64),
        prefix_ids=np.zeros(0, np.int32),
        prefix_block_tokens=0,
        priority=np.zeros(count, np.float32),
    )
    return Workload(stream, count)


def played(workload: Workload, **replica: Any) -> tuple[dict[str, Any], int]:
    """Serve requests by one replica; returns their table and its steps."""
    scenario = from_dict({"replicas": [{**REPLICA, **replica}], "workload": {}})
    env: Any = gym.make(
        "gpuyard/Routing-v0", scenario=replace(scenario, workload=workload)
    ).unwrapped
    env.reset(seed=1)
    done = False
    while not done:
        _, _, done, _, _ = env.step(0)
    return env.results()["requests"], int(env._world.state["replicas"]["step_count"][0, 0])


@pytest.mark.parametrize(("rate", "length"), [(0.73, 3), (0.69, 2), (0.27, 3)])
def test_the_mean_accepted_length_comes_out(rate: float, length: int) -> None:
    how = {"kind": "ngram", "draft_length": length, "acceptance": rate}
    _, steps = played(equal_requests(10, 64, 1001, 1000.0), speculation=how)
    assert 10 * 1000 / (steps - 10) == pytest.approx(accepted_length(rate, length), rel=0.03)


def test_a_gain_at_low_load_and_a_loss_at_high_load() -> None:
    few, many = equal_requests(4, 100, 200, 100.0), equal_requests(400, 100, 200, 0.0)
    for workload, gains in ((few, True), (many, False)):
        off, _ = played(workload)
        on, _ = played(workload, speculation=EAGLE)
        spent_s = [(t["finish_s"] - t["arrival_s"]).mean() for t in (off, on)]
        assert (spent_s[1] < spent_s[0]) == gains
    off, _ = played(many)
    limited, _ = played(many, speculation={**EAGLE, "most_sequences": 16})
    assert limited["finish_s"].max() < 1.03 * off["finish_s"].max()


def test_a_router_sees_the_mean_time_to_a_token() -> None:
    replicas = [REPLICA, {**REPLICA, "speculation": EAGLE}]
    scenario = from_dict({"replicas": replicas, "workload": {}})
    scenario = replace(scenario, workload=equal_requests(2, 100, 50, 0.0))
    env: Any = gym.make("gpuyard/Routing-v0", scenario=scenario).unwrapped
    observation, _ = env.reset(seed=1)
    shown_s = env.layout.read(observation, "candidates", "route.step_s")
    expected_s = [
        decode_round_s(r.deployment, tabulate(r.deployment), 1, 100) for r in scenario.replicas
    ]
    np.testing.assert_allclose(shown_s, expected_s, rtol=1e-4)
    assert shown_s[1] < 0.8 * shown_s[0]


def test_published_effects_are_met() -> None:
    sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
    import technique_speculation

    rows = technique_speculation.rows()
    assert len(rows) == 15
    assert [row.target for row in rows if not row.inside] == []


WORLD = {
    "replicas": [
        {**REPLICA, "count": 2, "speculation": {**EAGLE, "acceptance": [0.3, 0.9]}},
        {**REPLICA, "speculation": {"kind": "draft-model", "draft_model": "Llama-3.2-1B"}},
    ],
    "workload": {"num_requests": 30, "rate_per_s": 6.0, "max_tokens": 1024},
}


def test_a_batch_is_its_single_environments_and_a_state_goes_on_alike() -> None:
    scenario = from_dict(WORLD)
    singles = [gym.make("gpuyard/Routing-v0", scenario=scenario) for _ in range(2)]
    batch: Any = gym.make_vec("gpuyard/Routing-v0", num_envs=2, scenario=scenario)
    seen = [env.reset(seed=5 + k)[0] for k, env in enumerate(singles)]
    together, _ = batch.reset(seed=[5, 6])
    saved: Any = None
    for step in range(30):
        for k, observation in enumerate(seen):
            for name, value in observation.items():
                np.testing.assert_array_equal(together[name][k], value)
        actions = [(step + k) % 3 for k in range(2)]
        if step == 10:
            saved = singles[0].unwrapped.get_state()
        seen = [env.step(action)[0] for env, action in zip(singles, actions, strict=True)]
        together, *_ = batch.step(np.array(actions))
    first = singles[0].unwrapped.results()["requests"]["finish_s"]
    singles[0].unwrapped.set_state(saved)
    for step in range(10, 30):
        singles[0].step(step % 3)
    np.testing.assert_array_equal(singles[0].unwrapped.results()["requests"]["finish_s"], first)
