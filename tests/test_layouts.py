"""Highest throughputs of whole models: TensorRT-LLM's own overviews, and their lay-outs."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import accuracy_layouts


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
