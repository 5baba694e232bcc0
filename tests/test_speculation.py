"""Speculative decoding: accepted lengths, memory, costs, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gpuyard.envs.hardware.catalogue import gpu, model
from gpuyard.envs.perf import Deployment, capability, kv_blocks, tabulate
from gpuyard.envs.perf.serving.drafting import (
    decode_round_s,
    draft_s,
    draft_table,
    host_draft_s,
)
from gpuyard.envs.perf.serving.iteration import decode_s
from gpuyard.envs.perf.serving.kv_groups import block_bytes
from gpuyard.envs.perf.serving.speculation import (
    Speculation,
    accepted_length,
    drafter,
    mean_accepted_length,
)
from gpuyard.envs.scenario import ScenarioError, from_dict

LLAMA = Deployment(gpu("H100-SXM"), model("Llama-3-70B"), tp=4)
SMALL = model("Llama-3.2-1B")
V3 = Deployment(
    gpu("H200-SXM"), model("DeepSeek-V3"), tp=1, dp=8, ep=8, dtype="fp8", max_num_seqs=512
)


def speculating(how: Speculation, deployment: Deployment = LLAMA) -> Deployment:
    return replace(deployment, speculation=how)


@pytest.mark.parametrize(
    ("rate", "length", "mean"), [(0.0, 5, 1.0), (0.5, 1, 1.5), (0.5, 3, 1.875), (0.73, 3, 2.6519)]
)
def test_mean_accepted_length(rate: float, length: int, mean: float) -> None:
    assert accepted_length(rate, length) == pytest.approx(mean, rel=1e-4)


def test_mean_over_requests_with_rates_of_their_own() -> None:
    # mean of 1 + a over 0.2 to 0.8 is 1.5; with a^2: (0.8^3 - 0.2^3) / 3 / 0.6 = 0.28 more
    assert mean_accepted_length(Speculation("ngram", 1, (0.2, 0.8))) == pytest.approx(1.5)
    assert mean_accepted_length(Speculation("ngram", 2, (0.2, 0.8))) == pytest.approx(1.78)


def test_published_acceptance_follows_from_one_rate() -> None:
    """EAGLE-3 on gpt-oss-20b (2.70 with K = 3, 3.27 with K = 7), MTP 2.18 with K = 2."""
    for rate, length, measured in ((0.73, 3, 2.70), (0.73, 7, 3.27), (0.69, 2, 2.18)):
        assert accepted_length(rate, length) == pytest.approx(measured, rel=0.05)


def test_a_draft_model_takes_weights_and_blocks() -> None:
    on = speculating(Speculation("draft-model", draft_model=SMALL, draft_tp=1))
    # 16 layers of 2 * 8 * 64 elements in 16 bits beside 80 of 2 * 8 * 128 on a quarter of the GPUs
    assert block_bytes(on) == 16 * 2 * (80 * 2 * 8 * 128 // 4 + 16 * 2 * 8 * 64)
    left = kv_blocks(LLAMA) * block_bytes(LLAMA) - SMALL.weight_bytes("bf16")
    assert kv_blocks(on) == pytest.approx(left / block_bytes(on), abs=2)
    assert kv_blocks(speculating(Speculation("ngram"))) == kv_blocks(
        replace(LLAMA, engine="vllm-0.21")
    )


def test_a_head_is_one_layer_and_its_vocabulary() -> None:
    head = drafter(speculating(Speculation("eagle")))
    assert head is not None
    layer = LLAMA.model.full_attention_params + 3 * 8192 * 28672 + 2 * 8192
    assert head.model.params == layer + 32_000 * 8192


def test_further_layers_share_embedding_and_head() -> None:
    on = speculating(Speculation("mtp", 2), V3)
    head = drafter(on)
    assert head is not None and head.model.layers == 1 and head.model.moe_layers == 1
    # one layer more of 61 in every block, and one more of 58 layers with experts on each GPU
    assert block_bytes(on) == pytest.approx(block_bytes(V3) * 62 / 61)
    routed = 256 * head.model.expert_params / 8
    taken = kv_blocks(V3) // 8 * block_bytes(V3) - kv_blocks(on) // 8 * block_bytes(on)
    assert routed < taken < 1.25 * routed


def test_the_time_of_a_step_that_drafts() -> None:
    how = Speculation("draft-model", 4, (0.6, 0.6), draft_model=SMALL)
    on = speculating(how)
    table, draft = tabulate(on), draft_table(on)
    assert draft is not None
    plain, count, context = tabulate(LLAMA), 8, 8000
    # the first pass reads all 40 tokens beside the model; three more have one token of each
    assert table.linear_s[40] == pytest.approx(plain.linear_s[40] + draft.linear_s[40])
    assert table.head_s[40] == pytest.approx(float(plain.head_s[40]))
    passes = [
        draft.linear_s[8] + draft.head_s[8] + float(decode_s(draft.coefficients, 8, 8000 + 8 * j))
        for j in (1, 2, 3)
    ]
    fixed_s, sequence_s = host_draft_s(on)
    expected = fixed_s + 8 * sequence_s + draft.head_s[8] + sum(passes)
    assert draft_s(on, count, context) == pytest.approx(expected, rel=1e-5)
    verify = table.linear_s[40] + table.head_s[40]
    verify += float(decode_s(table.coefficients, count, context, 5))
    c = table.coefficients
    step = max(verify + draft_s(on, count, context), c["host_s"] + 8 * c["host_seq_s"])
    assert decode_round_s(on, table, count, context) == pytest.approx(step / 2.3056)


def test_attention_reads_the_cache_once_but_computes_for_every_token() -> None:
    c = tabulate(V3).coefficients
    moved = np.cbrt(
        (c["dec_flop_s"] * 3e5) ** 3 + (c["dec_token_s"] * 1e5 + c["dec_row_s"] * 12) ** 3
    )
    fixed = c["dec_fixed_s"] + c["dec_log_s"] * np.log2(1 + 25_000 / 1024) + 4 * c["dec_seq_s"]
    assert float(decode_s(c, 4, 100_000, 3)) == pytest.approx(fixed + moved)


def test_gain_alone_and_loss_in_a_crowd() -> None:
    on = speculating(Speculation("eagle", 5, (0.6, 0.6)))
    alone, crowd = ((1, 500), (1024, 1024 * 500))
    for load, better in ((alone, True), (crowd, False)):
        off_s = decode_round_s(LLAMA, tabulate(LLAMA), *load)
        assert (decode_round_s(on, tabulate(on), *load) < off_s) == better
    limited = speculating(Speculation("ngram", 5, (0.6, 0.6), most_sequences=64))
    synchronous = replace(LLAMA, engine="vllm-0.12")
    limited = replace(limited, engine="vllm-0.12")
    crowd_s = decode_round_s(limited, tabulate(limited), *crowd)
    assert crowd_s == pytest.approx(decode_round_s(synchronous, tabulate(synchronous), *crowd))
    assert capability(on).decode != capability(LLAMA).decode


def test_n_grams_need_the_tokens_before_a_step_is_planned() -> None:
    assert LLAMA.rules.asynchronous
    assert not speculating(Speculation("ngram")).rules.asynchronous
    assert speculating(Speculation("eagle")).rules.asynchronous


H100 = {"gpu": "H100-SXM", "model": "Llama-3-70B", "tp": 4}
DEEP = {**{"gpu": "H200-SXM", "model": "DeepSeek-V3", "dtype": "fp8"}, **{"dp": 8, "ep": 8}}
TWO = {**H100, "tp": 2, "gpu_memory_utilization": 0.95}
BAD: list[tuple[dict[str, Any], Any, str]] = [
    (H100, 3, "speculation = 3 must be a table"),
    (H100, {}, "speculation.kind is missing; use one of draft-model"),
    (H100, {"kind": "medusa"}, "speculation.kind = 'medusa' must be one of draft-model"),
    (H100, {"kind": "eagle", "k": 3}, "speculation.k is unknown; use one of acceptance"),
    (H100, {"kind": "eagle", "draft_length": 0}, "draft_length = 0 must be a whole number >= 1"),
    (H100, {"kind": "eagle", "draft_length": 65}, "speculation.draft_length = 65: give 1 to 64"),
    (H100, {"kind": "eagle", "draft_length": 1.5}, "draft_length = 1.5 must be a whole number"),
    (H100, {"kind": "eagle", "acceptance": 1}, "speculation.acceptance = (1.0, 1.0): give a rate"),
    (H100, {"kind": "eagle", "acceptance": [0.8, 0.2]}, "or two that rise"),
    (
        H100,
        {"kind": "eagle", "acceptance": [0.8]},
        "must be a number, or the least and the largest",
    ),
    (H100, {"kind": "eagle", "acceptance": "high"}, "acceptance = 'high' must be a number"),
    (H100, {"kind": "eagle", "acceptance": float("nan")}, "acceptance = (nan, nan): give a rate"),
    (H100, {"kind": "eagle", "most_sequences": -1}, "most_sequences = -1 must be a whole number"),
    (H100, {"kind": "draft-model"}, "draft_model = '': name a model of the catalogue"),
    (H100, {"kind": "draft-model", "draft_model": "Lama-3.2-1B"}, "did you mean Llama-3.2-1B"),
    (H100, {"kind": "eagle", "draft_model": "Llama-3.2-1B"}, "'Llama-3.2-1B': leave it out: eagle"),
    (
        H100,
        {"kind": "draft-model", "draft_model": "Qwen2.5-0.5B"},
        "vocabulary of 151936 is not the 128256 of Llama-3-70B",
    ),
    (
        H100,
        {"kind": "draft-model", "draft_model": "Llama-3.2-1B", "draft_tp": 2},
        "speculation.draft_tp = 2: give 1, or 0",
    ),
    (
        {**H100, "model": "Qwen2.5-7B", "dtype": "bf16"},
        {"kind": "draft-model", "draft_model": "Odd"},
        "speculation.draft_tp = 0",
    ),
    (H100 | {"scheduling": "async"}, {"kind": "ngram"}, "scheduling = 'async': the host needs"),
    (H100, {"kind": "mtp"}, "Llama-3-70B has no layers for further tokens (mtp_layers)"),
    (DEEP, {"kind": "eagle"}, "with dp = 8 only mtp and ngram are modelled"),
    ({**H100, "pp": 2}, {"kind": "ngram"}, "no engine drafts with pipeline stages"),
    (
        {**H100, "max_num_seqs": 256, "max_num_batched_tokens": 1024},
        {"kind": "eagle", "draft_length": 3},
        "max_num_batched_tokens = 1024: it must be above the 1024 tokens",
    ),
    (
        TWO,
        {"kind": "draft-model", "draft_model": "Llama-3-8B"},
        "leave out speculation: Llama-3-8B takes 7.5 GiB of these weights",
    ),
]
ODD = {
    **{"layers": 2, "hidden": 896, "heads": 14, "kv_heads": 2, "head_dim": 64, "ffn": 4864},
    "vocab": 152064,
}


@pytest.mark.parametrize(("replica", "how", "said"), BAD)
def test_bad_speculation_is_refused(replica: dict[str, Any], how: Any, said: str) -> None:
    table = {"replicas": [{**replica, "speculation": how}], "workload": {}, "models": {"Odd": ODD}}
    with pytest.raises(ScenarioError) as error:
        from_dict(table)
    assert said in str(error.value)
    assert str(error.value).startswith("replicas[0]")


def test_requests_must_fit_with_the_tokens_that_are_drafted() -> None:
    table = {"replicas": [{**H100, "kv_blocks": 16}], "workload": {"max_tokens": 256}}
    from_dict(table)
    table["replicas"][0]["speculation"] = {"kind": "ngram"}
    with pytest.raises(ScenarioError, match="the largest KV cache holds 253"):
        from_dict(table)
