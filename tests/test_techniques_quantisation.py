"""Number formats: published effects, and what a format changes."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import technique_quantisation
import techniques
from technique_row import Row

from gpuyard.envs.hardware.catalogue import gpu, model
from gpuyard.envs.perf import Deployment, kv_blocks, tabulate
from gpuyard.envs.perf.serving.attention import decode_gqa, in_engine
from gpuyard.envs.perf.serving.constants import constants, recorded
from gpuyard.envs.perf.serving.gemm import gemm_s, kernel_s
from gpuyard.envs.perf.serving.iteration import step_s

ROWS = technique_quantisation.rows()
COMPARED = [row for row in ROWS if row.validated]
MISSED = {"int4 (AWQ) Llama-3-8B on H100, batch 64: rate"}
LLAMA = Deployment(gpu("B200-SXM"), model("Llama-3-70B"))


@pytest.mark.parametrize("row", COMPARED, ids=[row.target for row in COMPARED])
def test_published_effects_are_met_or_known_to_be_missed(row: Row) -> None:
    assert row.inside != (row.target in MISSED)
    assert row.inside or row.note


def test_fewer_bits_take_less_memory_and_time() -> None:
    formats = ("bf16", "fp8", "nvfp4")  # weights and activations
    found = [replace(LLAMA, dtype=dtype) for dtype in formats]
    blocks = [kv_blocks(d) for d in found]
    steps = [step_s(tabulate(d), 16, 16_000) for d in found]
    assert blocks == sorted(blocks) and steps == sorted(steps, reverse=True)


def test_weight_only_formats_help_decoding_and_not_prompts() -> None:
    plain = Deployment(gpu("A100-80"), model("Llama-3-8B"))
    few = replace(plain, dtype="int4")
    assert step_s(tabulate(few), 1, 500) < 0.6 * step_s(tabulate(plain), 1, 500)
    prompt = [(2048, 0)]
    assert step_s(tabulate(few), 0, 0, prompt) > 1.3 * step_s(tabulate(plain), 0, 0, prompt)


def test_int8_takes_the_rows_of_fp8_where_there_are_any() -> None:
    h100, a100 = gpu("H100-SXM"), gpu("A100-80")
    row = constants("gemm", h100, "int8")
    assert (row["key"], row["confidence"]) == ("fp8", "analogy")
    assert constants("gemm", a100, "int8")["key"] == "bf16"  # Ampere has no fp8
    # of the same peak and bytes, so as fast, the calibration with it
    assert gemm_s(64, 4096, 4096, h100, "int8") == gemm_s(64, 4096, 4096, h100, "fp8")
    with recorded() as used:
        gemm_s(64, 4096, 4096, h100, "int8")
    assert {(s.key, s.confidence) for s in used} == {("int8", "analogy")}
    # twice the rate of 16 bits where arithmetic decides
    wide = [float(kernel_s(16_384, 8192, 8192, a100, dtype)) for dtype in ("bf16", "int8")]
    assert wide[0] / wide[1] == pytest.approx(2, rel=0.02)
    with pytest.raises(ValueError, match="MI-none has no int8; use one of"):
        Deployment(replace(h100, name="MI-none", int8_ops=0.0), model("Llama-3-8B"), dtype="int8")


def test_marlin_is_vllms_on_ampere() -> None:
    a100 = gpu("A100-80")
    assert constants("gemm", a100, "int4", "vllm")["key"] == "int4_vllm"
    assert constants("gemm", a100, "int4", "trtllm")["key"] == "int4"
    # GPUs like it take the row as it is: their changes are those of other kernels
    borrowed = constants("gemm", gpu("A100-40"), "int4", "vllm")
    assert (borrowed["em"], borrowed["confidence"]) == (0.58, "analogy")
    assert constants("gemm", gpu("A100-40"), "bf16", "vllm")["em"] == 0.78


def test_calibration_belongs_to_the_row() -> None:
    h100 = gpu("H100-SXM")  # without a row for int4: that of bf16, 1.28 and 1.02 times
    t0, alone = 3.37e-6, float(kernel_s(8, 4096, 4096, h100, "int4"))
    assert gemm_s(8, 4096, 4096, h100, "int4") == pytest.approx(1.28 * t0 + 1.02 * (alone - t0))


def test_fp8_caches_are_calibrated_inside_engines() -> None:
    h100 = gpu("H100-SXM")
    for dim, rest in ((128, 0.877), (64, 1.31)):
        alone = decode_gqa(h100, 32, 8, dim, "fp8")
        inside = in_engine(alone, h100, dim, "fp8")
        assert inside["dec_token_s"] == pytest.approx(rest * alone["dec_token_s"])
        assert inside["dec_fixed_s"] == pytest.approx(1.22 * alone["dec_fixed_s"])
    plain = decode_gqa(h100, 32, 8, 128, "bf16")
    assert in_engine(plain, h100, 128, "bf16") == plain


def test_the_page_is_current() -> None:
    text = techniques.PAGE.read_text()
    missing = [row.target for row in ROWS if techniques.line(row) not in text]
    assert not missing, "run python benchmarks/techniques.py --write"
