"""Engines by version: which one a name stands for, its defaults, and its host time."""

from __future__ import annotations

import dataclasses

import pytest

from gpuyard.envs.hardware.catalogue import gpu, model
from gpuyard.envs.perf import Deployment, tabulate
from gpuyard.envs.perf.serving.constants import constants
from gpuyard.envs.perf.serving.engines import ENGINES, NEWEST, engine
from gpuyard.envs.perf.serving.iteration import step_s


def deployment(version: str, device: str = "H100-SXM", name: str = "Llama-3.1-8B", **settings):
    return Deployment(gpu(device), model(name), engine=version, **settings)


@pytest.mark.parametrize(
    ("name", "stands_for"),
    [
        ("vllm", NEWEST),
        ("vllm-0.27", "vllm-0.21"),
        ("vllm-1.2", "vllm-0.21"),
        ("vllm-0.19.1", "vllm-0.19"),
        ("vllm-0.17", "vllm-0.15"),
        ("vllm-0.14", "vllm-0.15"),
        ("vllm-0.11.2", "vllm-0.12"),
        ("vllm-0.10", "vllm-0.10"),
        ("vllm-0.9.2", "vllm-0.8"),
        ("sglang", "sglang"),
    ],
)
def test_a_version_stands_for_all_up_to_the_next(name: str, stands_for: str) -> None:
    assert engine(name).name == stands_for


@pytest.mark.parametrize("name", ["vllm-0.7", "vllm-0.6.3", "vllm-", "vllm-0.1x", "tgi", ""])
def test_what_is_not_modelled_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"use one of vllm-0\.8, .*trtllm, or a vllm-X\.Y"):
        engine(name)


def test_versions_in_order() -> None:
    versions = [e.since for e in ENGINES if e.stack == "vllm"]
    assert versions == sorted(versions) and engine(NEWEST).since == versions[-1]
    # of vLLM: full graphs 0.11, asynchronous 0.14, whole prompts 0.19
    flags = {e.name: (e.full_graphs, e.asynchronous, e.whole_prompt) for e in ENGINES}
    assert flags["vllm-0.10"] == (False, False, False)
    assert flags["vllm-0.12"] == (True, False, False)
    assert flags["vllm-0.15"] == (True, True, False)
    assert flags["vllm-0.19"] == (True, True, True)


@pytest.mark.parametrize(
    ("device", "tokens", "seqs"),
    [
        ("H100-SXM", 8192, 1024),
        ("MI300X", 8192, 1024),
        ("RTX-PRO-6000", 8192, 1024),
        ("A100-80", 2048, 256),  # 80 GiB, but vLLM leaves A100 out
        ("A100-PCIe-80", 2048, 256),
        ("RTX-4090", 2048, 256),
    ],
)
def test_limits_follow_the_gpu(device: str, tokens: int, seqs: int) -> None:
    d = deployment("vllm-0.19", device)
    assert (d.max_num_batched_tokens, d.max_num_seqs) == (tokens, seqs)


def test_what_is_set_wins() -> None:
    d = deployment(
        "vllm-0.19",
        max_num_batched_tokens=512,
        max_num_seqs=32,
        gpu_memory_utilization=0.5,
        frontend_ms=0.0,
    )
    assert (d.max_num_batched_tokens, d.max_num_seqs) == (512, 32)
    assert (d.gpu_memory_utilization, d.frontend_ms) == (0.5, 0.0)
    assert deployment("vllm-0.19", max_num_batched_tokens=512).max_num_seqs == 511
    assert deployment("vllm-0.19", "A100-80", max_num_seqs=4096).max_num_batched_tokens == 4097


def test_utilisation_follows_the_version() -> None:
    # 0.92 since CUDA graphs count: vLLM pull request 38284
    assert deployment("vllm-0.19").gpu_memory_utilization == 0.90
    assert deployment(NEWEST).gpu_memory_utilization == 0.92


def test_limits_of_ranks_add_up() -> None:
    d = Deployment(gpu("H100-SXM"), model("Qwen3-30B-A3B"), dp=2, ep=2)
    assert (d.max_num_batched_tokens, d.max_num_seqs) == (16_384, 2048)


def test_synchronous_adds_the_host_and_asynchronous_hides_it() -> None:
    row = constants("host", gpu("H100-SXM"))
    wait, hide = (tabulate(deployment(v)) for v in ("vllm-0.12", "vllm-0.15"))
    assert wait.coefficients["host_s"] == wait.coefficients["host_seq_s"] == 0
    more = step_s(wait, 8, 8000) - step_s(hide, 8, 8000)
    each = row["sequence_us"]["vllm"] - row["gap_sequence_us"]
    assert more == pytest.approx(1e-6 * (row["step_us"]["vllm"] - row["gap_us"] + 8 * each))


def test_a_small_model_waits_for_the_host() -> None:
    # 28 layers of 90 us, 1 ms, and 20 us for each of 4 sequences
    table = tabulate(deployment("vllm-0.19", name="Qwen2.5-1.5B"))
    assert step_s(table, 4, 400) == pytest.approx(28 * 90e-6 + 1e-3 + 4 * 20e-6)
    # a large batch does not
    assert step_s(table, 256, 256 * 4000) > 28 * 90e-6 + 1e-3 + 256 * 20e-6


def test_launching_layer_by_layer_takes_the_same_at_any_length() -> None:
    # DeepSeek-R1 on vLLM of early 2025: 16.1 ms in int4 on H100, 15.85 in fp8 on H200, at prompts
    # of 128 to 8,000 tokens. Source: tt-inference-server issue 356, vLLM's recipes
    for device, dtype, ms in (("H100-SXM", "int4", 16.1), ("H200-SXM", "fp8", 15.85)):
        table = tabulate(deployment("vllm-0.10", device, "DeepSeek-R1", tp=8, dtype=dtype))
        steps = [1e3 * step_s(table, 1, context) for context in (128, 8000)]
        assert steps[0] == pytest.approx(steps[1]) == pytest.approx(ms, rel=0.05)


def test_fast_and_slow_gpu_side_by_side() -> None:
    # both with the same engine: an H100 answers one stream about 1.5 times as fast as an RTX PRO
    h100, rtx = (
        tabulate(deployment("vllm-0.19", device, dtype="fp8"))
        for device in ("H100-SXM", "RTX-PRO-6000")
    )
    assert step_s(rtx, 1, 500) / step_s(h100, 1, 500) == pytest.approx(1.55, rel=0.05)


def test_every_version_has_costs() -> None:
    for known in ENGINES:
        table = tabulate(deployment(known.name))
        assert 0 < step_s(table, 1, 1) < step_s(table, 64, 64_000)


def test_equal_versions_are_equal_deployments() -> None:
    one, other = (deployment(v, frontend_ms=7.0) for v in ("vllm-0.19", "vllm-0.19"))
    assert tabulate(one) is tabulate(dataclasses.replace(other))
