"""Visual tokens and encoder time: published numbers, and the formulas by hand."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import technique_vision
import techniques
from technique_row import Row

from gpuyard.envs.hardware.catalogue import gpu, model
from gpuyard.envs.hardware.encoders import Image, encoder, encoders, tiling
from gpuyard.envs.perf.serving.constants import constants
from gpuyard.envs.perf.serving.gemm import gemm_s
from gpuyard.envs.perf.serving.vision import encode_s

ROWS = technique_vision.rows()
COMPARED = [row for row in ROWS if row.validated]
MISSED = {
    "LLaVA-OneVision-0.5B, 1,152 px: ms",
    "FastViTHD at 256 px before Qwen2-0.5B: ms",
    "ViT-L/14 at 336 px before Qwen2-0.5B: ms",
    "SigLIP-SO400M at 384 px before Qwen2-0.5B: ms",
}
H100 = gpu("H100-SXM")


@pytest.mark.parametrize("row", COMPARED, ids=[row.target for row in COMPARED])
def test_published_effects_are_met_or_known_to_be_missed(row: Row) -> None:
    assert row.inside != (row.target in MISSED)
    assert row.inside or row.note


def test_every_encoder_belongs_to_models_of_the_catalogue() -> None:
    for entry in encoders():
        assert entry.source and entry.confidence in ("published", "scaled")
        for name in entry.models:
            assert encoder(name) is entry
            assert model(name).vision_params > 0
    with pytest.raises(ValueError, match=r"'Llama-3-8B' sees no images; use one of LLaVA"):
        encoder("Llama-3-8B")


def test_tilings_by_hand() -> None:
    # 968 x 1,808 px left of 1,920 x 1,080: 45 windows would cover it, 12 may
    assert tiling(1808, 968, 224, 12) == (3, 4)
    assert tiling(224, 224, 224, 12) == (1, 1)
    assert tiling(225, 224, 224, 12) == (1, 2)  # covers it, just
    assert tiling(100, 100_000, 224, 12) == (12, 1)


def test_images_of_molmo() -> None:
    seen = encoder("Molmo-7B-D")
    # 3 x 4 windows and the overview, each 24 x 24 patches
    assert seen.image(1920, 1080) == Image(1196, 13, 576, 13 * 336**2)
    assert seen.image(1, 1).tokens == 316
    assert max(seen.image(w, h).tokens for w in (10, 5000) for h in (10, 5000)) == 1460
    with pytest.raises(ValueError, match="image of 0 x 5: give sides of 1 pixel and more"):
        seen.image(0, 5)


def test_native_sizes_are_bounded() -> None:
    seen = encoder("Qwen2-VL-7B")
    assert seen.image(280, 140) == Image(50, 1, 200, 50 * 784)
    assert seen.image(28, 28).tokens == 4
    large = seen.image(20_000, 10_000)
    assert 0.97 * 16_384 < large.tokens <= 16_384
    assert encoder("Qwen3.5-27B").image(224, 224).tokens == 64  # 256 x 256 at least


def test_transformer_time_by_hand() -> None:
    seen, image = encoder("LLaVA-1.5-7B"), Image(576, 2, 576, 225_792)
    row, other = constants("vit", H100), constants("elementwise", H100)
    linear_s = sum(
        float(gemm_s(1152, n, k, H100, "bf16"))
        for n, k in ((3072, 1024), (1024, 1024), (4096, 1024), (1024, 4096))
    )
    attention_s = 6.3e-6 + 4 * 2 * 16 * 64 * 576 * (576 + 520) / (0.52 * 989.4e12)
    bytes_moved = 1152 * (28 * 1024 + 6 * 4096)
    rest_s = 10e-6 + bytes_moved / (other["em"] * 3.35e12)
    expected = 3.5e-3 + 24 * (linear_s + attention_s + rest_s)
    assert row["s0"] == 520
    assert encode_s(seen, H100, image) == pytest.approx(expected)


def test_convolutions_take_their_flops() -> None:
    seen = encoder("FastVLM-7B")
    image = seen.image(5, 5)
    # 0.454 TFLOP at 0.4 of the peak
    expected = 3.5e-3 + 433e9 * 1.048576 / (0.4 * 989.4e12)
    assert encode_s(seen, H100, image) == pytest.approx(expected)
    half = replace(seen, side=512).image(5, 5)
    assert encode_s(seen, H100, half) - 3.5e-3 == pytest.approx((expected - 3.5e-3) / 4)


def test_the_page_is_current() -> None:
    text = techniques.PAGE.read_text()
    missing = [row.target for row in ROWS if techniques.line(row) not in text]
    assert not missing, "run python benchmarks/techniques.py --write"
