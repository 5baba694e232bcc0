"""Replicas on several nodes: tensor parallelism and stages over NICs, experts over many ranks."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gpuyard.envs.hardware.catalogue import gpu, model
from gpuyard.envs.perf import Deployment, kv_blocks, tabulate
from gpuyard.envs.perf.network.internode import Group, collective_s
from gpuyard.envs.perf.serving import expert_parallel as wide
from gpuyard.envs.perf.serving.across_nodes import reduce_s, stages_s
from gpuyard.envs.perf.serving.iteration import coefficients, prefill_s, step_s
from gpuyard.envs.perf.serving.kv_capacity import rank_weight_bytes
from gpuyard.envs.perf.serving.kv_groups import block_bytes
from gpuyard.envs.perf.serving.kv_transfer import kv_transfer
from gpuyard.envs.perf.serving.tokenwise import head_s, linear_s

H100, H800 = gpu("H100-SXM"), gpu("H800-SXM")
LLAMA = Deployment(H100, model("Llama-3-70B"), tp=8)
V3 = Deployment(
    H100, model("DeepSeek-V3"), dp=16, ep=16, dtype="fp8", engine="sglang", all_to_all="deepep"
)


def test_ranks_fill_nodes():
    assert LLAMA.group(8) == Group(8, 1)
    assert replace(LLAMA, tp=16).group(16) == Group(8, 2)
    assert replace(LLAMA, node_gpus=2).group(8) == Group(2, 4)
    # three of six GPUs on a node where four would fit
    qwen = Deployment(H100, model("Qwen2.5-7B"), tp=4, node_gpus=3)
    assert qwen.network.gpus_per_node == 2
    assert [d.network.gpus_per_node for d in LLAMA.spreads] == [8, 4, 2, 1]
    assert LLAMA.spreads[0] is LLAMA
    assert [V3.group(n) for n in (1, 8, 16)] == [Group(1, 1), Group(8, 1), Group(8, 2)]


def test_all_reduce_across_nodes_by_hand():
    """Rings of 4 nodes: 40.8 us of low latency, 50 to leave it, 200 to fill, bytes on 8 NICs."""
    d = replace(LLAMA, tp=32)
    size = 1e9
    wire_s = 2 * 31 / 32 * size / (8 * 0.96 * 50e9)
    assert float(reduce_s(d, size, 32)) == pytest.approx(290.8e-6 + wire_s, rel=1e-4)
    sizes = np.geomspace(1e4, 3e8, 57)
    exact = [collective_s("all_reduce", s, Group(8, 4), H100, d.network) for s in sizes]
    assert reduce_s(d, sizes, 32) == pytest.approx(exact, rel=2e-3)
    slow = replace(d, gpu=replace(H100, nic_bytes_per_s=25e9))
    assert float(reduce_s(slow, size, 32)) == pytest.approx(290.8e-6 + 2 * wire_s, rel=1e-4)


def test_a_spread_replica_pays_for_its_all_reduces():
    """Two of each of 80 layers, of 16-bit hidden states; all else is as on one node."""
    far = replace(LLAMA, node_gpus=4)
    for tokens in (1, 64, 2048):
        size = 2 * tokens * 8192
        more = float(reduce_s(far, size, 8)) - float(reduce_s(LLAMA, size, 8))
        assert more > 0
        assert float(linear_s(far, tokens) - linear_s(LLAMA, tokens)) == pytest.approx(160 * more)
    assert head_s(far, 8) == head_s(LLAMA, 8)
    assert kv_blocks(far) == kv_blocks(LLAMA)


def test_stages_by_hand():
    """Two stages of 4 GPUs: each micro-batch is half of the batch and passes on 32 KB a token."""
    one = replace(LLAMA, tp=4, max_num_batched_tokens=8192)
    near = replace(one, pp=2)
    far = replace(near, node_gpus=4)
    tokens = 512
    size = 4 * tokens * 8192 / 4
    assert float(stages_s(near, tokens)) == pytest.approx(8e-6 + size / (0.8 * 450e9))
    assert float(stages_s(far, tokens)) == pytest.approx(14e-6 + size / (0.96 * 50e9))
    for d in (near, far):
        expected = linear_s(one, tokens) + stages_s(d, tokens)
        assert float(linear_s(d, 2 * tokens)) == pytest.approx(float(expected))
    assert near.gpus == 8 and near.max_num_batched_tokens == 8192
    assert rank_weight_bytes(near) == pytest.approx(rank_weight_bytes(one) / 2)
    assert block_bytes(near) == block_bytes(one) / 2
    assert kv_blocks(near) > 2 * kv_blocks(one)
    moved, whole = kv_transfer(near, near, 1024), kv_transfer(one, one, 1024)
    assert moved.size_bytes == whole.size_bytes and moved.senders == 8


def test_chunks_are_spread_over_shards():
    """One chunk costs what it costs on its rank, two of them on two ranks no more."""
    d = Deployment(H100, model("Qwen3-30B-A3B"), dp=2, ep=2)
    c = coefficients(d)
    plain = coefficients(replace(d, dp=1, tp=1, ep=1))
    attention_s = prefill_s(plain, [(1024, 0)]) - plain["pre_fixed_s"]
    alone_s = prefill_s(c, [(1024, 0)]) - c["pre_fixed_s"]
    assert c["other_shards"] == 1 and plain["other_shards"] == plain["pre_alone_s"] == 0
    assert alone_s == pytest.approx(attention_s + 1024 * c["pre_alone_s"])
    assert prefill_s(c, [(1024, 0)] * 2) == prefill_s(c, [(1024, 0)])
    many = prefill_s(c, [(1024, 0)] * 100) - c["pre_fixed_s"]
    assert many == pytest.approx(50 * attention_s)
    assert prefill_s(plain, [(1024, 0)] * 2) - plain["pre_fixed_s"] == pytest.approx(
        2 * attention_s
    )


def test_low_latency_by_hand():
    """128 tokens to 8 experts each, half of them on the other node; measured 118 and 195 us."""
    copies = 128 * 8 / 2
    dispatch = 24.3e-6 + copies * 7168 * 1.03125 / (0.952 * 50e9)
    combine = 25.7e-6 + copies * 7168 * 2 / (0.925 * 50e9)
    assert float(wide.low_latency_s(V3, 128, "dispatch", 2)) == pytest.approx(dispatch)
    assert float(wide.low_latency_s(V3, 128, "combine", 2)) == pytest.approx(combine)
    assert float(wide.exchange_s(V3, 128, True)) == pytest.approx(dispatch + combine)
    assert 1e6 * dispatch == pytest.approx(118, rel=0.15)
    assert 1e6 * combine == pytest.approx(195, rel=0.15)


def test_high_throughput_by_hand():
    """A token goes once to each node that it needs: 8 experts hit 3.6 of 4, 2.7 of them others."""
    hit = 4 * (1 - 0.75**8)
    expected = 33.7e-6 + 4096 * 7392 * hit * 0.75 / (0.856 * 50e9)
    assert float(wide.high_throughput_s(V3, 4096, "dispatch", 8, 4)) == pytest.approx(expected)
    # the H800's links are slower than its NICs: 6.28 ranks hit that the token reaches over them
    inside = 4096 * 7392 * 32 * (1 - (31 / 32) ** 8) * 7 / 8
    slow = replace(V3, gpu=replace(H800, nic_bytes_per_s=100e9))
    expected = 33.7e-6 + inside / (0.511 * 200e9)
    assert float(wide.high_throughput_s(slow, 4096, "dispatch", 8, 4)) == pytest.approx(expected)


def test_the_busiest_rank_sets_the_pace():
    skewed = replace(V3, expert_imbalance=1.5)
    start = wide.low_latency_s(V3, 0, "combine", 2)
    even = wide.low_latency_s(V3, 100, "combine", 2) - start
    assert float(wide.low_latency_s(skewed, 100, "combine", 2) - start) == pytest.approx(1.5 * even)
    assert linear_s(skewed, 4096) > linear_s(V3, 4096)


def test_two_batches_hide_the_exchange_or_the_work():
    """A layer takes twice the longer of half the work and half the exchange."""
    many = replace(V3, dp=72, ep=72, redundant_experts=32, two_batch_overlap=True)
    tokens = 72 * 256  # low latency, which packs and unpacks with all SMs
    exchange = 58 * wide.exchange_s(many, 128, True)
    assert float(linear_s(many, tokens)) == pytest.approx(2 * float(exchange))
    fast = replace(many, gpu=replace(H100, nic_bytes_per_s=100e9))
    half = linear_s(replace(fast, two_batch_overlap=False), tokens / 2)
    half += 58 * (wide.packing_s(fast, 128) - wide.exchange_s(fast, 128, True))
    assert float(linear_s(fast, tokens)) == pytest.approx(2 * float(half))
    both = replace(V3, two_batch_overlap=True)
    # weights would be read twice for few tokens
    assert linear_s(both, 16) == linear_s(V3, 16)
    # high throughput: 108 of 132 SMs compute
    tokens = 16 * 8192
    half = linear_s(V3, tokens / 2) - 58 * wide.exchange_s(V3, 4096, False)
    assert float(linear_s(both, tokens)) == pytest.approx(2 * float(half) * 132 / 108)


def test_redundant_experts_take_memory_and_free_the_choice_of_ranks():
    with pytest.raises(ValueError, match=r"ep = 72: it must divide the 256 experts"):
        replace(V3, dp=72, ep=72)
    more = replace(V3, redundant_experts=32)
    expert_bytes = 58 * 32 * 3 * 7168 * 2048 / 16
    assert rank_weight_bytes(more) - rank_weight_bytes(V3) == pytest.approx(expert_bytes)
    assert replace(more, dp=72, ep=72).network.gpus_per_node == 8


def test_published_throughputs_of_deepseek_v3():
    """Within 20 % of the profiles of DeepSeek and SGLang, and of all but what EP replaced."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
    from accuracy_wide_ep import rows

    table = rows()
    layouts = table[table.quantity.isin(("prefill", "decode")) & ~table.row.str.contains("TP16")]
    assert len(layouts) == 12
    assert layouts.error.abs().max() < 20
    passes = table[table.quantity.isin(("dispatch_us", "combine_us"))]
    assert passes.error.abs().median() < 10


def test_a_table_of_many_ranks_is_used_by_steps():
    d = replace(V3, max_num_batched_tokens=16 * 1024, max_num_seqs=16 * 128)
    table = tabulate(d)
    few, more = (step_s(table, 16, 16 * 1000), step_s(table, 16 * 128, 16 * 128 * 1000))
    assert few < more < 128 * few
