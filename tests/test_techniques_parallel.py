"""Layouts over several GPUs, latent attention and Kimi-K2: published effects, and closed forms."""

from __future__ import annotations

import statistics
import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import technique_parallel
import techniques
from technique_row import Row

from gpuyard.envs.hardware.catalogue import gpu, model
from gpuyard.envs.perf import Deployment, kv_blocks, tabulate
from gpuyard.envs.perf.serving.attention import mixed_gqa
from gpuyard.envs.perf.serving.iteration import step_s

ROWS = technique_parallel.rows()
COMPARED = [row for row in ROWS if row.validated]
MISSED = (
    "5,000/500: 4 stages",
    "5,000/500: 8 stages",
    "DP attention over TP8",
    "two-batch overlap, 32 H100",
    "EP72 over six TP16",
    "8 B300, 64 users",
    "8 MI355X",
    "8 MI300X",
)


@pytest.mark.parametrize("row", COMPARED, ids=[row.target for row in COMPARED])
def test_published_effects_are_met_or_known_to_be_missed(row: Row) -> None:
    assert row.inside != any(part in row.target for part in MISSED)
    assert row.inside or row.note


@pytest.mark.parametrize("device", ["8 H200", "8 B200", "8 B300"])
def test_kimi_is_within_15_percent(device: str) -> None:
    errors = [abs(row.error) for row in ROWS if row.target.startswith(device)]
    assert len(errors) == 5 and statistics.median(errors) < 0.15


def test_a_bubble_stretches_every_step_by_its_stages() -> None:
    ideal = Deployment(gpu("H100-SXM"), model("Llama-3-70B"), pp=4)
    slow = tabulate(replace(ideal, pipeline_bubble=0.14))
    for step in ((8, 8000, []), (8, 8000, [(500, 100)]), (0, 0, [(2000, 0)])):
        assert step_s(slow, *step) == pytest.approx(1.42 * step_s(tabulate(ideal), *step))


def test_user_rate_by_hand() -> None:
    d = Deployment(gpu("H200-SXM"), model("Llama-3-8B"), max_num_batched_tokens=4096)
    table = tabulate(d)
    # one user waits for nobody's prompt
    alone_s = step_s(table, 1, 1050)
    assert technique_parallel.user_rate(d, 1, 1000, 100) == pytest.approx(1 / alone_s)
    # of three, each sees two prompts of others for each of its own: two in 100 tokens
    decode_s, mixed_s = step_s(table, 3, 3150), step_s(table, 2, 2100, [(1000, 0)])
    expected = 1 / (decode_s + 0.02 * (mixed_s - decode_s))
    assert technique_parallel.user_rate(d, 3, 1000, 100) == pytest.approx(expected)


def test_full_rate_by_hand() -> None:
    # 64 run; two prompt tokens come with each token of output, halfway through their prompts
    d = Deployment(gpu("H200-SXM"), model("Llama-3-8B"), max_num_seqs=64)
    seconds = step_s(tabulate(d), 64, 64 * 500, [(128, 200)], sampling=64)
    assert technique_parallel.full_rate(d, 400, 200) == pytest.approx(64 / seconds)
    # two stages compute a chunk each
    staged = replace(d, pp=2)
    seconds = step_s(tabulate(staged), 64, 64 * 500, [(64, 200)] * 2, sampling=64)
    assert technique_parallel.full_rate(staged, 400, 200) == pytest.approx(64 / seconds)


def test_decodes_mind_a_chunk_in_vllm_only() -> None:
    card = gpu("RTX-PRO-6000")
    assert mixed_gqa(card, 32, 128, "vllm")["mix_token_s"] > 0
    assert not any(mixed_gqa(card, 32, 128, "trtllm").values())


@pytest.mark.parametrize(
    ("name", "device", "layout"),
    [
        ("Kimi-K2", "H200-SXM", {"tp": 8, "dtype": "int4"}),
        ("Kimi-K2", "B200-SXM", {"tp": 8, "dtype": "int4"}),
        ("DeepSeek-V3", "H200-SXM", {"tp": 8, "dtype": "fp8"}),
        ("DeepSeek-V3", "B200-SXM", {"tp": 4, "dtype": "nvfp4"}),
    ],
)
def test_ready_deployments_fit(name: str, device: str, layout: dict[str, object]) -> None:
    assert kv_blocks(Deployment(gpu(device), model(name), **layout)) > 0


def test_the_page_is_current() -> None:
    text = techniques.PAGE.read_text()
    missing = [row.target for row in ROWS if techniques.line(row) not in text]
    assert not missing, "run python benchmarks/techniques.py --write"
