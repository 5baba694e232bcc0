"""Kernel formulas against calculations by hand."""

import math

import legacy
import numpy as np
import pytest

from gpuyard.envs.hardware.catalogue import gpu, gpu_from, model
from gpuyard.envs.perf.serving.attention import decode_gqa, decode_mla, prefill_gqa
from gpuyard.envs.perf.serving.collectives import Link, all_reduce_s, link_bytes_per_s, link_of
from gpuyard.envs.perf.serving.constants import constants
from gpuyard.envs.perf.serving.cost_table import COST
from gpuyard.envs.perf.serving.gemm import gemm_s, kernel_s
from gpuyard.envs.perf.serving.iteration import decode_s
from gpuyard.envs.perf.serving.moe import experts_s

PLAIN = gpu_from(
    "plain",
    {
        "sms": 100,
        "fp16_tflops": 100,
        "bf16_tflops": 100,
        "memory_gib": 80,
        "bandwidth_gbps": 1000,
        "like": "A100-80",
    },
)


def test_gemm_by_hand():
    row = {"t0_us": 2, "ec": 0.5, "em": 0.8, "k0": 0, "tile_m": 128, "tile_n": 128, "omega": 0.1}
    # two tiles of 100 SMs: 0.9 * 0.02 + 0.1 * 1 waves = 11.8 tiles' worth of time
    compute = 11.8 * 128 * 128 * 2 * 1024 / 50e12
    memory = (2 * 256 * 1024 + 2 * 128 * 1024 + 2 * 128 * 256) / 800e9
    expected = 2e-6 + (compute**4 + memory**4) ** 0.25
    assert expected == pytest.approx(9.9194e-6, rel=1e-4)
    assert kernel_s(128, 256, 1024, PLAIN, "bf16", row) == pytest.approx(expected, rel=1e-12)


def test_small_gemm_reads_its_weights_and_large_gemm_computes():
    h100 = gpu("H100-SXM")
    row = constants("gemm", h100, "bf16")
    one = kernel_s(1, 28672, 4096, h100, "bf16") - row["t0_us"] * 1e-6
    assert one == pytest.approx(2 * 28672 * 4096 / (row["em"] * 3.35e12), rel=0.02)
    many = float(kernel_s(16384, 28672, 4096, h100, "bf16"))
    assert 2 * 16384 * 28672 * 4096 / many / 989.4e12 == pytest.approx(row["ec"], rel=0.05)


def test_calibration_scales_the_fixed_and_the_variable_part():
    h100 = gpu("H100-SXM")
    t0 = constants("gemm", h100, "bf16")["t0_us"] * 1e-6
    alone = float(kernel_s(64, 4096, 4096, h100, "bf16"))
    assert gemm_s(64, 4096, 4096, h100, "bf16") == pytest.approx(1.28 * t0 + 1.02 * (alone - t0))


def test_quantised_activations_cost_their_pass_over_memory():
    h100 = gpu("H100-SXM")
    row = constants("gemm", h100, "fp8")
    without = {k: v for k, v in row.items() if k != "eq"}
    extra = kernel_s(512, 4096, 8192, h100, "fp8", row)
    extra = extra - kernel_s(512, 4096, 8192, h100, "fp8", without)
    assert extra == pytest.approx(3 * 512 * 8192 / (row["eq"] * 3.35e12))


def test_all_reduce_by_hand():
    # H100, 8 GPUs: 4.72 us + 1.75 S / 401 GB/s + 6.06 us beyond the knee
    seconds = float(all_reduce_s(64e6, 8, gpu("H100-SXM"), fused=False))
    assert seconds == pytest.approx(4.72e-6 + 1.75 * 64e6 / 401e9 + 6.06e-6, rel=1e-9)
    assert all_reduce_s(1e6, 1, gpu("H100-SXM")) == 0


def test_all_reduce_of_a_gpu_without_measurements_scales_with_its_links():
    h100, h20 = gpu("H100-SXM"), gpu("H20")
    assert all_reduce_s(1e9, 4, h20) == all_reduce_s(1e9, 4, h100)
    mi300x = gpu("MI300X")
    ratio = float(all_reduce_s(8e9, 8, mi300x) / all_reduce_s(8e9, 8, h100))
    assert ratio == pytest.approx(450 / 448, rel=1e-3)


def test_bridged_pairs_fall_back_to_pcie():
    bridged = gpu("H100-PCIe")
    assert link_bytes_per_s(2, bridged) == 300e9
    assert link_bytes_per_s(4, bridged) == 64e9  # PCIe 5
    assert link_bytes_per_s(4, gpu("A30")) == 32e9  # PCIe 4
    assert all_reduce_s(1e8, 4, bridged) > 5 * all_reduce_s(1e8, 2, bridged)


def test_through_the_host_by_hand():
    # PCIe from GPU to GPU: 6.31 us, 11.8 us beyond the knee; through the host 4 us later at 16 GB/s
    far = float(all_reduce_s(64e6, 2, gpu("RTX-PRO-6000")))
    assert far == pytest.approx((6.31 + 11.8 + 4) * 1e-6 + 64e6 / 16e9, rel=1e-6)
    near = float(all_reduce_s(64e6, 2, gpu("RTX-PRO-6000"), links="pcie"))
    assert near == pytest.approx((6.31 + 11.8) * 1e-6 + 64e6 / 37.4e9, rel=1e-6)
    assert link_bytes_per_s(2, gpu("RTX-PRO-6000")) == 16e9
    assert link_bytes_per_s(2, gpu("T4"), "host") == pytest.approx(0.42 * 16e9)  # PCIe 3


# us of nccl-tests on four RTX 4090. Source: tinygrad/open-gpu-kernel-modules, pull request 22
@pytest.mark.parametrize(
    ("size", "us"), [(2**16, 25.8), (2**20, 152.7), (2**22, 510.6), (2**26, 7888)]
)
def test_four_consumer_boards(size, us):
    assert all_reduce_s(size, 4, gpu("RTX-4090")) == pytest.approx(us * 1e-6, rel=0.15)


def test_links_are_those_of_the_gpu_unless_chosen():
    h100, l40s = gpu("H100-SXM"), gpu("L40S")
    assert link_of(8, h100) == link_of(8, h100, "nvlink") == Link("nvlink", 450e9)
    assert link_of(8, h100, "pcie") == Link("pcie", 64e9)
    assert link_of(2, l40s) == Link("pcie", 32e9)
    assert link_of(2, gpu("RTX-4090")) == link_of(2, l40s, "host") == Link("host", 13.44e9)
    assert link_of(4, gpu("A100-PCIe-80"), "nvlink") == Link("pcie", 32e9)
    for links in ("nvlink", "pcie", "host"):
        times = [float(all_reduce_s(1e7, 8, h100, links=kind)) for kind in (links, "host")]
        assert times[0] <= times[1]


def test_decode_attention_reads_the_cache_once():
    h100 = gpu("H100-SXM")
    c = decode_gqa(h100, 32, 8, 128, "bf16")
    em = constants("decode", h100, "bf16")["em"]
    assert c["dec_token_s"] == pytest.approx(2 * 8 * 128 * 2 / (em * 3.35e12))
    assert decode_gqa(h100, 16, 4, 128, "bf16")["dec_token_s"] == c["dec_token_s"] / 2


def test_latent_decode_pads_to_64_heads():
    h100 = gpu("H100-SXM")
    few, padded = decode_mla(h100, 16, "bf16"), decode_mla(h100, 64, "bf16")
    assert few["dec_flop_s"] == padded["dec_flop_s"]
    assert decode_mla(h100, 128, "bf16")["dec_flop_s"] == 2 * padded["dec_flop_s"]


PUBLISHED_US = [
    *[(16, "fp8", 4, n, 80_000, us) for n, us in ((4, 89), (8, 181), (32, 655), (128, 2623))],
    *[(8, "fp8", 8, 1, n, us) for n, us in ((131_000, 103), (500_000, 343), (1_000_000, 667))],
    *[(8, "bf16", 8, 1, n, us) for n, us in ((131_000, 201), (500_000, 717), (1_000_000, 1413))],
    *[(16, "bf16", 4, 1, n, us) for n, us in ((8192, 25.1), (32_768, 36.4))],
]
"""Heads, cache, tokens that a sequence verifies, sequences, cached tokens of each, and microseconds
of TensorRT-LLM's kernel on Blackwell: vLLM pull request 41778, FlashInfer issue 4390 (twice),
TensorRT-LLM pull request 15009."""


def test_blackwell_reads_a_latent_cache_again_for_each_verified_token():
    errors, once = [], []
    for heads, kv_dtype, width, sequences, cached, us in PUBLISHED_US:
        c = dict.fromkeys(COST.names, 0.0) | decode_mla(gpu("B200-SXM"), heads, kv_dtype)
        errors.append(1e6 * float(decode_s(c, sequences, sequences * cached, width)) / us - 1)
        c["dec_again_s"] = 0.0
        once.append(1e6 * float(decode_s(c, sequences, sequences * cached, width)) / us - 1)
    assert np.abs(errors).max() < 0.30 and np.median(np.abs(errors)) < 0.16
    assert np.min(once) < -0.6  # what reading the cache once misses, at a million tokens
    assert decode_mla(gpu("H100-SXM"), 16, "fp8")["dec_again_s"] == 0.0  # one tile holds them all


def test_prefill_attention_flops():
    h100 = gpu("H100-SXM")
    c = prefill_gqa(h100, 32, 8, 128, "bf16")
    ec = constants("prefill", h100)["ec"]
    # causal: q^2/2 pairs, 4 h d flops each
    assert c["pre_flop_s"] * 4096 * 4096 / 2 == pytest.approx(
        4 * 32 * 128 * 4096**2 / 2 / (ec * 989.4e12)
    )


def test_experts_by_hand():
    row = {"t0_us": 10, "ec": 0.5, "em": 0.5, "tm": 0, "ca": 1e9}
    mixtral = model("Mixtral-8x7B")
    # one token hits 2 of 8 experts and reads 2 * 3 * 4096 * 14336 bf16 weights, the last third of
    # them, 4,096 columns, by 2 * 43 of the 132 SMs
    third = 2 * 4096 * 14336 * 2 / (0.5 * 3.35e12)
    expected = 10e-6 + third * (2 + 132 / 86)
    one = float(experts_s(1, mixtral, gpu("H100-SXM"), "bf16", 1, 1, row))
    assert one == pytest.approx(expected, rel=1e-3)
    # many tokens hit all of them: half the experts on each of two ranks, half the time
    whole = experts_s(1000, mixtral, gpu("H100-SXM"), "bf16", 1, 1, row) - 10e-6
    half = experts_s(1000, mixtral, gpu("H100-SXM"), "bf16", 1, 2, row) - 10e-6
    assert half == pytest.approx(whole / 2, rel=1e-6)


def test_constants_follow_likeness():
    own = constants("gemm", gpu("H100-SXM"), "bf16")
    taken = constants("gemm", gpu("H20"), "bf16")
    assert (own["confidence"], taken["confidence"]) == ("measured", "analogy")
    assert taken["of"] == "H100-SXM" and taken["ec"] == 0.90 and taken["em"] == own["em"]
    assert constants("gemm", gpu("V100-16"), "fp16")["t0_us"] == 6
    with pytest.raises(KeyError, match="no allreduce constants"):
        constants("allreduce", gpu("H100-SXM"), "3")


def test_splitwise_table_points():
    # measured medians of splitwise-sim: 512 tokens 196.4 ms, decode 54.86 ms (A100, tp 2, batch 1)
    prefill = float(legacy.prefill_s("Llama-2-70B", "A100-80", 2, 512))
    assert prefill == pytest.approx(0.1964, rel=0.05)
    decode = float(legacy.decode_s("Llama-2-70B", "A100-80", 2, 1))
    assert decode == pytest.approx(0.05486, rel=0.07)
    with pytest.raises(ValueError, match="Splitwise has no Llama-3-8B"):
        legacy.decode_s("Llama-3-8B", "A100-80", 2, 1)


def test_time_never_falls_with_tokens():
    for name in ("A100-80", "L40S", "H100-SXM", "B200-SXM"):
        times = kernel_s(np.arange(1, 4097), 6144, 4096, gpu(name), "bf16")
        assert (np.diff(times) >= 0).all() and math.isfinite(times[-1])
