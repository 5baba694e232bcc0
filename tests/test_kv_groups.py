"""Blocks of a sequence whose layers keep different parts of it."""

from __future__ import annotations

import dataclasses

import pytest
from engine_worlds import WINDOWED
from hypothesis import given
from hypothesis import strategies as st

from gpuyard.envs.hardware.catalogue import gpu, model, model_from
from gpuyard.envs.perf import Deployment
from gpuyard.envs.perf.serving.kv_groups import KVGroups, block_bytes, kv_groups

H100 = gpu("H100-SXM")


def test_an_ordinary_model_holds_a_block_for_as_many_tokens() -> None:
    llama = Deployment(H100, model("Llama-3-8B"))
    assert kv_groups(llama) == KVGroups(16)
    assert [kv_groups(llama).blocks_of(tokens) for tokens in (1, 16, 17, 1600)] == [1, 1, 2, 100]
    assert kv_groups(llama).longest(100) == 1600
    assert block_bytes(llama) == 16 * 131_072


def test_windows_by_hand() -> None:
    # gpt-oss-120b: 18 of 36 layers look back 128 tokens: one group of 8 + 1 blocks
    oss = Deployment(H100, model("gpt-oss-120b"), tp=2, dtype="mxfp4")
    assert kv_groups(oss) == KVGroups(16, window_groups=1, window_blocks=9)
    assert kv_groups(oss).blocks_of(144) == 18
    assert kv_groups(oss).blocks_of(1600) == 109
    assert block_bytes(oss) == 16 * 18 * 2 * 4 * 64 * 2  # 4 of 8 KV heads on each GPU
    # 22 of 32 layers in groups of 10: three, the last one padded
    shape = {**WINDOWED, "window": 100, "window_layers": 22}
    groups = kv_groups(Deployment(H100, model_from("own", shape), block_size=32))
    assert groups == KVGroups(32, window_groups=3, window_blocks=5)


def test_a_model_of_windows_only_is_cached_as_a_whole() -> None:
    shape = {**WINDOWED, "window_layers": 32}
    assert kv_groups(Deployment(H100, model_from("own", shape))) == KVGroups(16)


@given(
    groups=st.builds(
        KVGroups, st.sampled_from([1, 16]), st.integers(0, 5), st.integers(0, 9), st.integers(0, 9)
    ),
    kv_blocks=st.integers(1, 200),
)
def test_the_longest_sequence_fits_and_no_longer_one(groups: KVGroups, kv_blocks: int) -> None:
    longest = groups.longest(kv_blocks)
    assert longest == 0 or groups.blocks_of(longest) <= kv_blocks
    assert groups.blocks_of(longest + 1) > kv_blocks


def test_windows_let_more_sequences_run() -> None:
    oss = kv_groups(Deployment(H100, model("gpt-oss-120b"), tp=2, dtype="mxfp4"))
    whole = dataclasses.replace(oss, window_blocks=10**6)
    assert oss.blocks_of(8192) == 521 and whole.blocks_of(8192) == 1024
    assert oss.longest(1024) == pytest.approx(2 * whole.longest(1024), rel=0.02)


def test_tensorrt_llm_keeps_what_left_the_window() -> None:
    """36 layers of 8 heads of 64, keys and values: 73,728 bytes a token, twice those of 18 layers.

    Its cache has one window, the longest sequence, unless ``max_attention_window`` is set
    (``tensorrt_llm/_torch/pyexecutor/resource_manager.py``, ``KVCacheManager.__init__``).
    """
    oss = Deployment(H100, model("gpt-oss-120b"), tp=2, dtype="mxfp4", engine="trtllm")
    assert kv_groups(oss) == KVGroups(16)
    assert block_bytes(oss) == 16 * 2 * 36 * (8 // 2) * 64 * 2
