"""Highest throughputs of whole models: TensorRT-LLM's own overviews, and their lay-outs."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import accuracy_layouts
import trtllm_bench
from trtllm_bench import Limits

from gpuyard.envs.perf.serving.cost_table import COST, CostTable


def row(name: str, device: str, layout: str, weights: str) -> SimpleNamespace:
    return SimpleNamespace(model=name, gpu=device, layout=layout, weights=weights)


@pytest.mark.parametrize(
    ("what", "prompt", "output", "published"),
    [
        (("Llama-3.1-405B", "B200", "TP4", "FP4"), 1000, 1000, 5209),
        (("Llama-3.1-405B", "H100", "TP8", "FP8"), 1000, 1000, 2919),
        (("Llama-3.3-70B", "H100", "TP2", "FP8"), 1000, 2000, 4146),
        (("Llama-3.3-70B", "H200", "TP1", "FP8"), 2048, 128, 442),
        (("Qwen3-30B-A3B", "RTX6000Pro", "TP1PP1", "FP4"), 1000, 1000, 9938),
    ],
)
def test_published_throughputs(what, prompt: int, output: int, published: float) -> None:
    """github.com/NVIDIA/TensorRT-LLM, perf-overview.md 1.0 and 1.2; no constant is from there."""
    rate = accuracy_layouts.full_rate(accuracy_layouts.deployment(row(*what)), prompt, output)
    assert rate == pytest.approx(published, rel=0.2)


def test_models_with_experts_have_attention_of_their_own_on_each_rank() -> None:
    found = accuracy_layouts.deployment(row("Qwen3-235B-A22B", "H200", "TP8", "FP8"))
    assert (found.tp, found.dp, found.ep, found.gpus) == (1, 8, 8, 8)
    dense = accuracy_layouts.deployment(row("Llama-3.3-70B", "RTX6000Pro", "TP1PP4", "FP4"))
    assert (dense.tp, dense.pp, dense.links) == (1, 4, "pcie")


def test_no_step_has_more_tokens_than_it_may() -> None:
    """Of 2,048 tokens in and 128 out, 17 a request and step, 481 requests at most in 8,192."""
    d = accuracy_layouts.deployment(row("Llama-3.1-8B", "H200", "TP1", "FP8"))
    rate = accuracy_layouts.full_rate(d, 2048, 128)
    assert 0 < rate < 481 / 0.058, "8,192 tokens of 7e9 weights take 58 ms at the peak of fp8"


@pytest.mark.parametrize(
    ("what", "prompt", "output", "published"),
    [
        (("DeepSeek-R1-0528", "B200", "DEP4", "FP4"), 1000, 1000, 4 * 6463),
        (("DeepSeek-R1-0528", "GB200", "DEP4", "FP4"), 8192, 1024, 4 * 1192),
        (("gpt-oss-120b", "GB200", "TP1", "FP4"), 1024, 1024, 26609),
        (("gpt-oss-120b", "H200", "TP1", "FP8"), 8192, 1024, 1828),
        (("Qwen3-235B-A22B", "H200", "DEP4", "FP8"), 1024, 8192, 4 * 1417),
        (("Llama-3.1-405B", "H100", "TP8", "FP8"), 1000, 2000, 2895),
    ],
)
def test_published_runs(what, prompt: int, output: int, published: float) -> None:
    """The same overviews, of which nothing is fitted: the run itself, with beginning and end."""
    d = accuracy_layouts.deployment(row(*what))
    assert accuracy_layouts.run_rate(d, prompt, output) == pytest.approx(published, rel=0.12)


def test_limits_are_those_that_the_tool_printed() -> None:
    """Its log of Llama-3.1-8B in FP8, 128 in and 128 out: 8,048 requests fit, 4,096 and 8,192.

    TensorRT-LLM, ``docs/source/performance/perf-benchmarking.md``.
    """
    d = accuracy_layouts.deployment(row("Llama-3.1-8B", "H200", "TP1", "FP8"))
    assert trtllm_bench.limits(d, 128, 128) == Limits(4096, 8192)


def test_limits_of_latent_caches_and_of_unknown_formats() -> None:
    """61 layers of 2 x 128 heads of 56 bytes are 874 kB a token: 62 to 64 of 9,216 in four B200.

    4 x 178 to 183 GB, less 671e9 weights of 0.28 bytes, of which 0.95. Those of mxfp4 are defaults.
    """
    d = accuracy_layouts.deployment(row("DeepSeek-R1-0528", "B200", "DEP4", "FP4"))
    assert trtllm_bench.limits(d, 1024, 8192) == Limits(96, 2048)
    d = accuracy_layouts.deployment(row("gpt-oss-120b", "H100", "DEP4", "FP8"))
    assert trtllm_bench.limits(d, 8192, 1024) == Limits(2048, 10240)
    assert d.kv_dtype == "bf16"


@pytest.mark.parametrize(
    ("batch", "most", "computed"),
    [(147, 1792, 256), (256, 1792, 256), (349, 512, 384), (83, 96, 96), (9000, 9000, 9000)],
)
def test_graphs_are_padded_to_the_next_captured_batch(batch, most, computed) -> None:
    assert trtllm_bench.captured(batch, most) == computed


def batch_of(linear_s, tokens: int) -> trtllm_bench._Batch:
    """Return a batch of prompts of 10 and outputs of 5 tokens, whose steps take ``linear_s``."""
    table = CostTable(np.zeros(1, COST)[0], np.asarray(linear_s, float), np.zeros(99))
    return trtllm_bench._Batch(table, 1, 10, 5, Limits(99, tokens))


def test_a_run_has_a_beginning_and_an_end() -> None:
    """Of four requests two run at once. Both prompts in one step: twice five steps.

    One prompt a step: the second begins a step later, and so does the fourth: eleven steps.
    """
    second = np.ones(99)
    assert batch_of(second, 25).seconds(4, 2) == 10.0
    assert batch_of(second, 15).seconds(4, 2) == 11.0


def test_decode_steps_compute_their_padding() -> None:
    """Three prompts are 30 tokens, and four decode steps of three cost those of four."""
    assert batch_of(np.arange(99), 30).seconds(3, 3) == 30 + 4 * 4


@pytest.mark.skipif(not accuracy_layouts.KERNELS.exists(), reason="needs the kernel tables")
def test_timed_experts_take_the_place_of_ours() -> None:
    """36 layers' difference of the kernel timed and the formula, at 1,024 tokens of both ranks."""
    d = accuracy_layouts.deployment(row("gpt-oss-120b", "B200", "DEP2", "FP4"))
    ours, timed = (make(d).linear_s for make in (accuracy_layouts.tabulate, balanced))
    kernel = accuracy_layouts.timed_experts(d, "balanced").set_index("num_tokens").ms[1024] / 1000
    constants = accuracy_layouts.constants("moe", d.gpu, d.dtype, d.stack)
    formula = accuracy_layouts.experts_s(1024, d.model, d.gpu, d.dtype, 1, 2, constants)
    assert timed[1024] - ours[1024] == pytest.approx(36 * (kernel - formula))
    assert timed[0] == 0.0


def balanced(d) -> CostTable:
    return accuracy_layouts.with_timed_experts(d, "balanced")


@pytest.mark.parametrize(("tokens", "timed_us"), [(1, 74.6), (4, 94.0), (128, 252.1), (256, 310.5)])
def test_tensorrt_llm_has_experts_of_its_own_on_h100(tokens: int, timed_us: float) -> None:
    """Its kernel, 4-bit weights and 16-bit activations, four ranks, balanced (aiconfigurator).

    Constants are H200's, fitted to serving; vLLM's kernel took a quarter to a half of that here.
    """
    d = accuracy_layouts.deployment(row("gpt-oss-120b", "H100", "DEP4", "FP8"))
    constants = accuracy_layouts.constants("moe", d.gpu, d.dtype, d.stack)
    ours_s = accuracy_layouts.experts_s(tokens, d.model, d.gpu, d.dtype, 1, 4, constants)
    assert 1e6 * ours_s == pytest.approx(timed_us, rel=0.3)
