"""Handing a KV cache from a prefill to a decode replica."""

from __future__ import annotations

import dataclasses

import accuracy_kv_transfer
import pytest

from gpuyard.envs.hardware.catalogue import gpu, model
from gpuyard.envs.perf import Deployment
from gpuyard.envs.perf.serving.kv_transfer import (
    CONNECTORS,
    descriptors,
    handover_s,
    kv_transfer,
    kv_transfer_bytes,
)

H100 = gpu("H100-SXM")
QWEN = Deployment(H100, model("Qwen3-8B"), tp=8)
LLAMA = Deployment(H100, model("Llama-3.1-8B"))


def test_published_transfers_that_fitted_nothing() -> None:
    found = accuracy_kv_transfer.rows()
    held = found[found.fit == 0]
    assert held.error.abs().median() <= 15
    assert held[held.quantity == "time_ms"].error.abs().median() <= 15


def test_bytes_that_mooncake_printed() -> None:
    # vllm-v1-pd-performance.md: MB of 128, 1024 and 32768 tokens, one more in each request
    for tokens, megabytes in ((128, 21.2), (1024, 153.4), (32768, 4834.2)):
        assert kv_transfer_bytes(QWEN, tokens + 1) / 1e6 == pytest.approx(megabytes, rel=5e-3)


def test_more_ranks_than_heads_take_copies() -> None:
    moe = Deployment(H100, model("Qwen3-235B-A22B"), tp=4, dtype="fp8")
    twice = dataclasses.replace(moe, tp=8)
    assert kv_transfer_bytes(twice, 1600) == 2 * kv_transfer_bytes(moe, 1600)
    assert kv_transfer_bytes(moe, 1600) == 1600 * moe.model.kv_bytes_per_token()


def test_every_rank_takes_all_of_a_latent_cache() -> None:
    deepseek = Deployment(gpu("H200-SXM"), model("DeepSeek-V3"), tp=8, dtype="fp8")
    once = 160 * 61 * (512 + 64) * 2
    assert kv_transfer_bytes(deepseek, 160) == 8 * once
    spread = dataclasses.replace(deepseek, tp=1, dp=8, ep=8)
    assert kv_transfer_bytes(spread, 160) == once
    assert descriptors(deepseek, 160) == 10 * 61


def test_whole_blocks_and_windows() -> None:
    assert kv_transfer_bytes(LLAMA, 17) == 32 * 131_072
    assert descriptors(LLAMA, 17) == 2 * 32 * 2
    oss = Deployment(H100, model("gpt-oss-120b"), dtype="mxfp4")
    # 18 of 36 layers keep 128 tokens in at most 9 blocks
    assert kv_transfer_bytes(oss, 16_000) == (1000 + 9) * 16 * 18 * 2 * 8 * 64 * 2
    assert descriptors(oss, 16_000) == 1009 * 18 * 2


def test_time_by_hand() -> None:
    # 1,000 blocks of 2 MiB over 0.92 x 50 GB/s; 64,000 pieces of 3 us take longer
    moved = kv_transfer(LLAMA, LLAMA, 16_000)
    assert moved.alone_s == pytest.approx(1e-3 + 64_000 * 3e-6)
    assert moved.size_bytes / moved.link_bytes_per_s == pytest.approx(2_097_152_000 / 46e9)
    assert moved.most_bytes_per_s == pytest.approx(2_097_152_000 / 0.192)
    one_piece = kv_transfer(LLAMA, LLAMA, 16_000, "mooncake")
    assert one_piece.alone_s == pytest.approx(0.34e-3 + 2_097_152_000 / (0.73 * 50e9))


def test_the_side_with_fewer_or_slower_links_sets_the_rate() -> None:
    narrow, wide = (dataclasses.replace(LLAMA, tp=tp) for tp in (2, 8))
    moved = kv_transfer(narrow, wide, 1000)
    assert (moved.senders, moved.receivers) == (2, 8)
    assert moved.link_bytes_per_s == kv_transfer(wide, narrow, 1000).link_bytes_per_s
    assert moved.link_bytes_per_s == pytest.approx(2 * 0.92 * 50e9)
    old = dataclasses.replace(narrow, gpu=gpu("A100-80"))
    assert kv_transfer(old, narrow, 1000).link_bytes_per_s == pytest.approx(2 * 0.92 * 25e9)


@pytest.mark.parametrize("connector", CONNECTORS)
def test_inside_a_domain_bytes_are_fast_and_pieces_are_not(connector: str) -> None:
    outside, inside = (kv_transfer(LLAMA, LLAMA, 16_000, connector, path) for path in (False, True))
    assert inside.inside_domain and not outside.inside_domain
    assert inside.link_bytes_per_s > 5 * outside.link_bytes_per_s
    assert inside.post_s >= outside.post_s


def test_gpus_without_links_of_their_own_use_pcie_inside() -> None:
    l40s = dataclasses.replace(LLAMA, gpu=gpu("L40S"))
    assert kv_transfer(l40s, l40s, 100, inside_domain=True).link_bytes_per_s == 0.8 * 32e9


def test_software_besides() -> None:
    # vllm issue 50913: 197 ms of which 29 transfer and 58 computing; 36 at best
    assert handover_s() == pytest.approx(0.197 - 0.029 - 0.058)
    assert handover_s("seeded") == pytest.approx(0.036 - 0.029)
    with pytest.raises(ValueError, match="kind = 'quick': use one of stock, seeded"):
        handover_s("quick")


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="model = 'Llama-3-8B' of the prefill replica and 'Qwen3"):
        kv_transfer(LLAMA, QWEN, 100)
    with pytest.raises(ValueError, match="kv_dtype = 'bf16' of the prefill replica and 'fp8'"):
        kv_transfer(LLAMA, dataclasses.replace(LLAMA, kv_dtype="fp8"), 100)
    other = dataclasses.replace(LLAMA, engine="trtllm")
    with pytest.raises(ValueError, match=r"engine = .* of the prefill replica and 'trtllm'"):
        kv_transfer(LLAMA, other, 100)
    small, odd = (dataclasses.replace(LLAMA, block_size=size) for size in (32, 24))
    with pytest.raises(ValueError, match=r"block_size = 32 of .* and 24 .*: one must divide"):
        kv_transfer(small, odd, 100)
    assert kv_transfer(small, LLAMA, 128).size_bytes == kv_transfer(LLAMA, LLAMA, 128).size_bytes
    with pytest.raises(ValueError, match="connector = 'pigeon': use one of nixl, mooncake"):
        kv_transfer(LLAMA, LLAMA, 100, "pigeon")
    with pytest.raises(ValueError, match="tokens = 0: give at least 1"):
        kv_transfer(LLAMA, LLAMA, 0)
