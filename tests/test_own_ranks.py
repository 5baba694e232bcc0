"""Attention data parallelism with ranks of their own: tables, rows, lock step, refusals."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import gpuyard  # noqa: F401
from gpuyard.envs.parts.serving import build_static
from gpuyard.envs.perf import tabulate
from gpuyard.envs.perf.serving.iteration import decode_s, prefill_s
from gpuyard.envs.perf.serving.own_ranks import of_one_rank
from gpuyard.envs.scenario import ScenarioError, from_dict

DEEP: dict[str, Any] = {
    **{"gpu": "H200-SXM", "model": "DeepSeek-V3", "dtype": "fp8", "dp": 8, "ep": 8},
    **{"max_num_seqs": 512, "max_num_batched_tokens": 16_384},
}
QUIET = {"num_requests": 40, "rate_per_s": 8.0, "max_tokens": 2048}


def scenario(**changes: Any):
    return from_dict({"replicas": [{**DEEP, **changes}], "workload": QUIET})


def test_a_rank_has_its_share() -> None:
    pooled, own = scenario(), scenario(dp_ranks="own")
    assert len(own.replicas) == 8 and [r.rank for r in own.replicas] == list(range(8))
    (one,) = pooled.replicas
    assert sum(r.kv_blocks for r in own.replicas) == one.kv_blocks
    assert sum(r.capacity for r in own.replicas) == pytest.approx(one.capacity)
    assert sum(r.price_per_h for r in own.replicas) == pytest.approx(one.price_per_h)
    assert own.replicas[0].kv_share == pytest.approx(one.kv_share)
    specs = build_static(own).replica_specs
    assert specs["max_num_seqs"].tolist() == [64] * 8
    assert specs["max_num_batched_tokens"].tolist() == [2048] * 8
    assert specs["first_device"].tolist() == list(range(8))
    assert specs["step_rank"].tolist() == list(range(8)) and set(specs["step_ranks"]) == {8}


def test_equal_ranks_take_as_long_as_the_pool() -> None:
    """Of a batch that is spread evenly each rank's step is the pool's; one rank's prompt, too."""
    table = tabulate(scenario().replicas[0].deployment)
    rank = of_one_rank(table, 8)
    assert rank.linear_s[10] == table.linear_s[80] and rank.head_s[10] == table.head_s[80]
    pool_s = float(decode_s(table.coefficients, 80, 80_000))
    assert float(decode_s(rank.coefficients, 10, 10_000)) == pytest.approx(pool_s)
    prompts = prefill_s(table.coefficients, [(512, 0)] * 8)
    alone = table.coefficients["pre_alone_s"] * 512
    assert prefill_s(rank.coefficients, [(512, 0)]) == pytest.approx(prompts - alone, rel=1e-6)


def test_ranks_wait_for_the_slowest() -> None:
    """Every request on one rank is served later than spread over all."""
    world, finish_s = scenario(dp_ranks="own"), []
    for ranks in (8, 1):
        env: Any = gym.make("gpuyard/Routing-v0", scenario=world).unwrapped
        env.reset(seed=1)
        done, turn = False, 0
        while not done:
            _, _, done, _, _ = env.step(turn % ranks)
            turn += 1
        table = env.results()["requests"]
        finish_s.append((table["finish_s"] - table["arrival_s"]).mean())
        ends = env._world.state["replicas"][0]["end_s"]
        assert len(set(ends)) == 1  # they have stepped together
    assert finish_s[1] > 1.02 * finish_s[0]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"dp_ranks": "mine"}, "dp_ranks = 'mine': use \"own\""),
        ({"dp_ranks": 3}, "dp_ranks = 3 must be text"),
        ({"dp_ranks": "own", "dp": 1, "tp": 8}, "it needs dp > 1 and pp = 1"),
        ({"dp_ranks": "own", "max_num_seqs": 500}, "max_num_seqs = 500"),
        ({"dp_ranks": "own", "max_num_batched_tokens": 16_383}, "a multiple of dp = 8"),
    ],
)
def test_bad_ranks_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ScenarioError) as error:
        scenario(**changes)
    assert said in str(error.value)


def test_ranks_that_speculate_have_their_share_of_drafting_sequences() -> None:
    how = {"kind": "mtp", "draft_length": 1, "most_sequences": 64}
    static = build_static(scenario(dp_ranks="own", speculation=how))
    assert set(static.replica_specs["most_drafting"]) == {8}
    assert len(static.costs) == 2 and set(static.replica_specs["draft_rows"]) == {1}
    np.testing.assert_array_equal(static.replica_specs["kind"], 0)
