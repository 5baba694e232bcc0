"""Step times, cost tables, memory and capability of whole deployments."""

import dataclasses

import numpy as np
import pytest

from gpuyard.envs.hardware.catalogue import gpu, gpu_names, model
from gpuyard.envs.perf import Deployment, capability, kv_blocks, kv_tokens, tabulate
from gpuyard.envs.perf.serving.capability import Capability
from gpuyard.envs.perf.serving.cost_table import COST
from gpuyard.envs.perf.serving.iteration import (
    coefficients,
    decode_s,
    prefill_s,
    step_s,
)
from gpuyard.envs.perf.serving.kv_capacity import (
    activation_bytes,
    expert_workspace_bytes,
    rank_weight_bytes,
)
from gpuyard.envs.perf.serving.kv_groups import KVGroups, block_bytes, kv_groups
from gpuyard.envs.perf.serving.tokenwise import head_s, linear_s

LLAMA = Deployment(gpu("H100-SXM"), model("Llama-3-8B"), max_num_seqs=256)


def record(**values):
    c = np.zeros(1, COST)[0]
    for name, value in values.items():
        c[name] = value
    return c


def test_decode_formula_by_hand():
    c = record(dec_fixed_s=1, dec_log_s=2, dec_seq_s=3, dec_token_s=4, dec_row_s=5, dec_flop_s=6)
    # 2 sequences of 1024 tokens each: log2(1 + 1) = 1
    moved = ((6 * 2048) ** 3 + (4 * 2048 + 5 * 2) ** 3) ** (1 / 3)
    assert decode_s(c, 2, 2048) == pytest.approx(1 + 2 + 3 * 2 + moved)
    c["dec_again_s"] = 7
    assert decode_s(c, 2, 2048) == pytest.approx(1 + 2 + 3 * 2 + moved)
    # 3 tokens of each verified: two of them read the cache again
    moved = ((6 * 2048 * 3) ** 3 + ((4 + 7 * 2) * 2048 + 5 * 2 * 3) ** 3) ** (1 / 3)
    assert decode_s(c, 2, 2048, 3) == pytest.approx(1 + 2 + 3 * 2 + moved)
    assert decode_s(c, 0, 0) == 0


def test_prefill_formula_by_hand():
    c = record(pre_fixed_s=1, pre_flop_s=2, pre_pad=10, pre_tile_s=3, pre_query_s=4, pre_cache_s=5)
    chunk = ((2 * 6 * (7 + 8)) ** 3 + (3 * 16) ** 3 + (4 * 6 + 5 * 13) ** 3) ** (1 / 3)
    assert prefill_s(c, [(6, 7), (6, 7)]) == pytest.approx(1 + 2 * chunk)
    assert prefill_s(c, []) == 0


def test_table_is_the_formula():
    table = tabulate(LLAMA)
    tokens = np.array([1, 2, 63, 64, 500, 8192])
    assert np.array_equal(table.linear_s[tokens], linear_s(LLAMA, tokens))
    assert np.array_equal(table.head_s[[1, 256]], head_s(LLAMA, [1, 256]))
    assert table.linear_s.shape == (8193,) and table.head_s.shape == (257,)
    assert table.linear_s[0] == table.head_s[0] == 0


def test_equal_deployments_share_a_table():
    assert tabulate(LLAMA) is tabulate(dataclasses.replace(LLAMA))


def test_a_step_is_the_sum_of_its_parts():
    table = tabulate(LLAMA)
    c = table.coefficients
    chunks = [(512, 1024), (100, 0)]
    expected = table.linear_s[16 + 612] + table.head_s[17]
    expected += decode_s(c, 16, 16_000) + prefill_s(c, chunks)
    assert step_s(table, 16, 16_000, chunks, sampling=17) == pytest.approx(float(expected))


def test_batch_of_one_is_bound_by_reading_the_weights():
    step = step_s(tabulate(LLAMA), 1, 128)
    weights_s = 2 * (model("Llama-3-8B").params - 128256 * 4096) / 3.35e12
    assert weights_s < step < 2 * weights_s


def test_prompt_throughput_is_a_plausible_share_of_peak():
    seconds = step_s(tabulate(LLAMA), 0, 0, [(8192, 0)])
    dense = model("Llama-3-8B").params - model("Llama-3-8B").embedding_params
    share = 2 * 8192 * dense / seconds / 989.4e12
    assert 0.5 < share < 0.8


def test_tensor_parallelism_helps_less_than_its_degree():
    llama = model("Llama-3-70B")
    steps = [
        step_s(tabulate(Deployment(gpu("H200-SXM"), llama, tp=tp)), 16, 32_000) for tp in (2, 4, 8)
    ]
    assert steps[0] > steps[1] > steps[2] > steps[0] / 4


def test_sliding_window_bounds_the_context_of_half_the_layers():
    oss = Deployment(gpu("H100-SXM"), model("gpt-oss-120b"), tp=2, dtype="mxfp4")
    full = dataclasses.replace(oss, model=dataclasses.replace(oss.model, window_layers=0))
    windowed, whole = tabulate(oss).coefficients, tabulate(full).coefficients
    assert windowed["dec_token_s"] == pytest.approx(whole["dec_token_s"] / 2)


def test_data_parallel_attention_halves_the_rank_and_pools_the_experts():
    qwen = model("Qwen3-30B-A3B")
    one = tabulate(Deployment(gpu("H100-SXM"), qwen))
    two = tabulate(Deployment(gpu("H100-SXM"), qwen, dp=2, ep=2))
    assert two.coefficients["dec_token_s"] == one.coefficients["dec_token_s"] / 2
    # a chunk stays on one rank: it gains less than a decode batch from the second GPU
    prefill = [step_s(t, 0, 0, [(4096, 0)]) for t in (one, two)]
    assert prefill[0] / 2 < prefill[1] < prefill[0]


def test_every_gpu_can_be_tabulated():
    for name in gpu_names():
        d = Deployment(gpu(name), model("Llama-3-8B"), dtype="fp16", max_num_batched_tokens=2048)
        table = tabulate(d)
        assert np.isfinite(table.linear_s).all() and (np.diff(table.linear_s) > 0).all()


def test_kv_blocks_of_a_real_vllm_server():
    # vLLM 0.19 on an RTX 4090, Llama-3.1-8B, 2048 tokens, 256 sequences, 0.9: 2,588 blocks
    d = Deployment(gpu("RTX-4090"), model("Llama-3.1-8B"), engine="vllm-0.19")
    assert kv_blocks(d) == pytest.approx(2588, rel=0.01)


def test_memory_of_a_rank():
    d = Deployment(gpu("H100-SXM"), model("Llama-3-70B"), tp=4)
    assert rank_weight_bytes(d) == pytest.approx(2 * d.model.params / 4)
    assert block_bytes(d) == 16 * 327_680 / 4
    wide = Deployment(gpu("H100-SXM"), model("Qwen3-30B-A3B"), tp=8)
    assert block_bytes(wide) == 16 * 98_304 / 4  # 4 KV heads, each on two ranks
    latent = Deployment(gpu("H200-SXM"), model("DeepSeek-V3"), tp=8, dtype="fp8")
    assert block_bytes(latent) == 16 * 70_272  # copied to every rank
    spread = Deployment(gpu("RTX-PRO-6000"), model("Qwen3-30B-A3B"), dp=2, ep=2)
    routed = 48 * 128 * spread.model.expert_params
    assert rank_weight_bytes(spread) == 2 * (spread.model.params - routed / 2)
    # every rank has the routers, the projections down to the latent cache, and two of 16 bits that
    # are folded: 79.74 GiB in a vLLM 0.11.2 log
    assert rank_weight_bytes(latent) / 2**30 == pytest.approx(79.74, rel=5e-3)


@pytest.mark.parametrize(
    ("name", "groups"),
    [
        ("Llama-3-8B", (0, 0, 0)),
        ("gpt-oss-20b", (1, 9, 0)),  # 12 layers of 24 with a window of 128 tokens
        ("Gemma-3-27B", (6, 65, 0)),  # 52 of 62 layers with one of 1,024
        # 25 layers keep 8 heads of 256, 5 keep 2 of 512 elements
        ("Gemma-4-26B-A4B", (10, 65, 0)),
        # 36 states of 1,097,728 bytes in blocks of 12 layers, 2 heads of 256 elements
        ("Qwen3-Next-80B-A3B", (0, 0, 101)),
    ],
)
def test_layers_that_keep_less_form_groups(name, groups):
    d = Deployment(gpu("B200-SXM"), model(name))
    found = kv_groups(d)
    assert (found.window_groups, found.window_blocks, found.state_blocks) == groups
    assert found.reuses_prefix == (groups[2] == 0)


def test_windows_are_kept_whole_before_groups():
    # vLLM forms groups from 0.10 on: 12 of 24 layers in a block instead of all
    oss = Deployment(gpu("B200-SXM"), model("gpt-oss-20b"), dtype="mxfp4")
    old = dataclasses.replace(oss, engine="vllm-0.9")
    assert block_bytes(oss) == block_bytes(old) / 2 == 16 * 12 * 2 * 8 * 64 * 2
    assert kv_tokens(oss) == kv_blocks(oss) // 2 * 16
    assert kv_tokens(old) == kv_blocks(old) * 16


def test_early_versions_take_more_to_sample():
    # 1,024 sequences of 151,936 words: 178,880 tokens in a vLLM 0.9 log (issue 21348)
    qwen = model("Qwen3-235B-A22B")
    d = Deployment(gpu("H100-SXM"), qwen, tp=4, dtype="fp8", engine="vllm-0.9")
    new = dataclasses.replace(d, engine="vllm-0.12")
    assert activation_bytes(d) - activation_bytes(new) == 16 * 1024 * 151_936
    assert kv_tokens(d) == pytest.approx(178_880, rel=0.2)


def test_mxfp4_experts_are_padded_to_the_tile():
    # logged by vLLM 0.10.1 (issue 23278) and 0.19
    for name, device, gib in (
        ("gpt-oss-120b", "H100-SXM", 65.97),
        ("gpt-oss-20b", "A100-80", 13.72),
    ):
        d = Deployment(gpu(device), model(name), dtype="mxfp4")
        assert rank_weight_bytes(d) / 2**30 == pytest.approx(gib, rel=5e-3)


def test_workspace_of_experts_by_hand():
    # 8,192 tokens, each to 8 experts, and 128 rows for each of 256: 98,304 rows of 2 x 3,072 in 16
    # bits
    d = Deployment(gpu("H100-SXM"), model("MiniMax-M2.5"), tp=4, dtype="fp8")
    assert expert_workspace_bytes(d) == 2 * 98_304 * 2 * 3072


@pytest.mark.parametrize("version", ["vllm-0.10", "vllm-0.12", "vllm-0.19"])
def test_what_a_real_engine_refuses_is_refused(version):
    # vLLM issue 23278: 65.97 GiB of weights leave -2.14 GiB of an H100 at utilisation 0.9
    d = Deployment(gpu("H100-SXM"), model("gpt-oss-120b"), dtype="mxfp4", engine=version)
    with pytest.raises(ValueError, match=r"gpt-oss-120b in mxfp4 does not fit on 1 x H100-SXM"):
        kv_blocks(d)
    assert kv_blocks(dataclasses.replace(d, gpu=gpu("H200-SXM"))) > 0


def test_model_that_does_not_fit_says_what_to_do():
    with pytest.raises(ValueError, match=r"does not fit on 1 x H100-SXM.*raise tp"):
        kv_blocks(Deployment(gpu("H100-SXM"), model("Llama-3-70B")))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tp": 0}, "tp = 0"),
        ({"tp": 3}, "must divide the 32 heads"),
        ({"node_gpus": 9}, "node_gpus = 9: a node has at most 8 H100-SXM"),
        ({"pp": 5}, "pp = 5: it must divide the 32 layers of Llama-3-8B"),
        ({"redundant_experts": 2}, "redundant_experts = 2: Llama-3-8B has no experts"),
        ({"all_to_all": "pplx"}, "all_to_all = 'pplx': use \"deepep\", or leave it out"),
        ({"all_to_all": "deepep"}, "it needs dp > 1 and ep = tp \\* dp"),
        ({"two_batch_overlap": True}, "two_batch_overlap = True: it needs all_to_all"),
        ({"expert_imbalance": 0.5}, "expert_imbalance = 0.5: give the busiest over the mean"),
        ({"pipeline_bubble": 0.1}, "pipeline_bubble = 0.1: give a share from 0 to 1, with pp"),
        ({"cuda_graphs": -2}, "cuda_graphs = -2: give 1 to 4096 captured batch sizes, 0 for none"),
        ({"layer_launch_us": 150.0}, "layer_launch_us = 150.0: it needs cuda_graphs = 0"),
        ({"layer_launch_us": -2.0, "cuda_graphs": 0}, "layer_launch_us = -2.0: give microseconds"),
        ({"scheduling": "late"}, "scheduling = 'late': use one of sync, async, or leave it out"),
        ({"attention": "paged"}, "attention = 'paged': use one of flash, naive"),
        ({"model": model("DeepSeek-V3"), "attention": "naive"}, "has a latent cache, whose naive"),
        ({"links": "usb"}, "links = 'usb': use one of nvlink, pcie, host, or leave it out"),
        ({"ep": 2}, "has no experts"),
        ({"dtype": "nvfp4"}, "has no nvfp4; use one of bf16"),
        ({"dtype": "bf17"}, "dtype 'bf17' is unknown"),
        ({"kv_dtype": "int2"}, "kv_dtype = 'int2'"),
        ({"engine": "hf"}, "engine = 'hf': use one of vllm-0.8"),
        ({"frontend_ms": -2.0}, "frontend_ms = -2.0: give 0 to"),
        ({"max_num_seqs": -1}, "max_num_seqs = -1"),
        ({"block_size": 2.5}, "block_size = 2.5"),
        ({"max_num_batched_tokens": 100}, "at least max_num_seqs"),
        ({"gpu_memory_utilization": 1.5}, "share above 0"),
        ({"model": model("Mixtral-8x7B"), "ep": 3}, "must divide the 8 experts"),
        ({"model": model("Mixtral-8x7B"), "tp": 2, "ep": 4}, "must divide tp \\* dp = 2"),
    ],
)
def test_bad_deployments_name_field_value_and_remedy(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(LLAMA, **changes)


def test_capability_by_hand():
    c = Capability((0.0, 1e-4, 0.0), (0.01, 0.0, 0.0), 750, KVGroups(16), max_num_seqs=256)
    assert c.max_batch(1000, 200) == 10
    # ten prefills of 0.1 s and 200 decode steps of 10 ms for 2,000 tokens
    assert c.throughput(1000, 200) == pytest.approx(2000 / 3)
    assert c.max_batch(20_000, 1) == 1
    assert dataclasses.replace(c, max_num_seqs=4).max_batch(1000, 200) == 4


def test_capability_fits_the_cost_table():
    c, table = capability(LLAMA), tabulate(LLAMA)
    for tokens in (512, 2048, 8192):
        assert c.prefill_s(tokens) == pytest.approx(step_s(table, 0, 0, [(tokens, 0)]), rel=0.15)
    for sequences in (1, 32, 256):
        exact = step_s(table, sequences, sequences * 1024)
        assert c.decode_s(sequences, sequences * 1024) == pytest.approx(exact, rel=0.15)
    assert c.kv_blocks == kv_blocks(LLAMA)


def test_capability_orders_gpus():
    llama = model("Llama-3-8B")
    names = ("H200-SXM", "H100-SXM", "A100-80", "L40S", "L4")
    rates = [capability(Deployment(gpu(n), llama)).throughput(1000, 250) for n in names]
    assert rates == sorted(rates, reverse=True)


def test_links_are_chosen_per_replica():
    board, llama = gpu("RTX-PRO-6000"), model("Llama-3.1-8B")
    with pytest.raises(ValueError, match="links = 'nvlink': use one of pcie, host, or leave"):
        Deployment(board, llama, links="nvlink")
    assert Deployment(gpu("GB200-NVL72"), llama, tp=16).network.gpus_per_node == 16
    assert Deployment(gpu("GB200-NVL72"), llama, tp=16, links="pcie").network.gpus_per_node == 8
    near, far = (Deployment(board, llama, tp=2, links=links) for links in ("pcie", ""))
    assert coefficients(near)["comm_bytes_per_s"] == 64e9
    assert coefficients(far)["comm_bytes_per_s"] == 16e9
    # 32 layers reduce twice; 16 MB at 16 instead of 37.4 GB/s, and 4 us later
    extra = linear_s(far, 2000) - linear_s(near, 2000)
    size = 2 * 2000 * 4096
    assert extra == pytest.approx(64 * (4e-6 + size / 16e9 - size / 37.4e9), rel=1e-9)
