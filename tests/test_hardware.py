"""Catalogues: published parameter counts, units, user entries and their errors."""

import math

import pytest

from gpuyard.envs.hardware.catalogue import gpu, gpu_from, gpu_names, model, model_from, model_names
from gpuyard.envs.hardware.dtypes import DTYPES
from gpuyard.envs.perf.serving.constants import constants

WHOLE, HEAD, NONE = 0.0, 0.5, 1.0  # share of untied embeddings that an active count leaves out
PUBLISHED_B = {  # parameters, active ones, in billions; what the active count leaves out; source
    "Llama-2-7B": (6.74, 6.74, WHOLE, "model card"),
    "Llama-2-13B": (13.0, 13.0, WHOLE, "model card"),
    "Llama-2-70B": (69.0, 69.0, WHOLE, "model card"),
    "Llama-3-8B": (8.03, 8.03, WHOLE, "model card"),
    "Llama-3-70B": (70.6, 70.6, WHOLE, "model card"),
    "Llama-3-405B": (405.9, 405.9, WHOLE, "model card"),
    "Llama-3.2-1B": (1.23, 1.23, WHOLE, "model card"),
    "Llama-3.2-3B": (3.21, 3.21, WHOLE, "model card"),
    "Llama-4-Scout": (109, 17, WHOLE, "model card; 109 with the vision encoder"),
    "Llama-4-Maverick": (400, 17, WHOLE, "model card"),
    "CodeLlama-34B": (33.7, 33.7, WHOLE, "model card (size of the weights)"),
    "Yi-34B": (34.4, 34.4, WHOLE, "model card (size of the weights)"),
    "Qwen2-57B-A14B": (57.4, 14.2, WHOLE, "Qwen2 technical report, arXiv 2407.10671"),
    "Qwen2.5-0.5B": (0.49, 0.49, WHOLE, "model card"),
    "Qwen2.5-1.5B": (1.54, 1.54, WHOLE, "model card"),
    "Qwen2.5-3B": (3.09, 3.09, WHOLE, "model card"),
    "Qwen2.5-7B": (7.61, 7.61, WHOLE, "model card"),
    "Qwen2.5-14B": (14.7, 14.7, WHOLE, "model card"),
    "Qwen2.5-32B": (32.8, 32.8, WHOLE, "model card"),
    "Qwen2.5-72B": (72.7, 72.7, WHOLE, "model card"),
    "Qwen3-0.6B": (0.6, 0.6, WHOLE, "model card"),
    "Qwen3-1.7B": (1.7, 1.7, WHOLE, "model card"),
    "Qwen3-4B": (4.0, 4.0, WHOLE, "model card"),
    "Qwen3-8B": (8.2, 8.2, WHOLE, "model card"),
    "Qwen3-14B": (14.8, 14.8, WHOLE, "model card"),
    "Qwen3-32B": (32.8, 32.8, WHOLE, "model card"),
    "Qwen3-30B-A3B": (30.5, 3.3, WHOLE, "model card"),
    "Qwen3-235B-A22B": (235, 22, WHOLE, "model card"),
    "Qwen3-Coder-480B-A35B": (480, 35, WHOLE, "model card"),
    "Qwen3-Next-80B-A3B": (80, 3, NONE, "model card; 79 outside embeddings"),
    "Qwen3.5-27B": (27, 27, WHOLE, "model card"),
    "Qwen3.5-35B-A3B": (35, 3, HEAD, "model card"),
    "Mistral-7B": (7.25, 7.25, WHOLE, "model card (size of the weights)"),
    "Mistral-Nemo-12B": (12.2, 12.2, WHOLE, "model card (size of the weights)"),
    "Mistral-Small-24B": (23.6, 23.6, WHOLE, "model card (size of the weights)"),
    "Mixtral-8x7B": (46.7, 12.9, WHOLE, "mistral.ai announcement"),
    "Mixtral-8x22B": (141, 39, WHOLE, "mistral.ai announcement"),
    "MiniMax-M2.5": (230, 10, NONE, "model card"),
    "gpt-oss-20b": (20.91, 3.61, HEAD, "model card, table 1, arXiv 2508.10925"),
    "gpt-oss-120b": (116.83, 5.13, HEAD, "model card, table 1, arXiv 2508.10925"),
    "Gemma-2-9B": (9.24, 9.24, WHOLE, "Gemma 2 report, table 2, arXiv 2408.00118"),
    "Gemma-2-27B": (27.23, 27.23, WHOLE, "Gemma 2 report, table 2, arXiv 2408.00118"),
    "Gemma-3-1B": (1.000, 1.000, WHOLE, "Gemma 3 report, table 1, arXiv 2503.19786"),
    "Gemma-3-4B": (3.884, 3.884, WHOLE, "Gemma 3 report, table 1, arXiv 2503.19786"),
    "Gemma-3-12B": (11.771, 11.771, WHOLE, "Gemma 3 report, table 1, arXiv 2503.19786"),
    "Gemma-3-27B": (27.016, 27.016, WHOLE, "Gemma 3 report, table 1, arXiv 2503.19786"),
    "Gemma-4-26B-A4B": (25.2, 3.8, WHOLE, "model card"),
    "Gemma-4-31B": (30.7, 30.7, WHOLE, "model card"),
    "Phi-3-mini": (3.82, 3.82, WHOLE, "model card (size of the weights)"),
    "Phi-3-medium": (14.0, 14.0, WHOLE, "model card"),
    "Phi-4": (14.7, 14.7, WHOLE, "model card (size of the weights)"),
    "Phi-4-mini": (3.84, 3.84, WHOLE, "model card (size of the weights)"),
    "GLM-4.5": (355, 32, NONE, "GLM-4.5 report, table 1, arXiv 2508.06471; 355 with MTP layer"),
    "GLM-4.5-Air": (106, 12, NONE, "GLM-4.5 report, table 1, arXiv 2508.06471"),
    "DeepSeek-V2": (236, 21, WHOLE, "arXiv 2405.04434"),
    "DeepSeek-V3": (671, 37, WHOLE, "arXiv 2412.19437"),
    "DeepSeek-V3.2": (671, 37, WHOLE, "model card of V3.1, which it continues"),
    "Kimi-K2": (1040, 32.6, WHOLE, "Kimi K2 report, table 2, arXiv 2507.20534"),
    "GPT-3-175B": (175, 175, WHOLE, "arXiv 2005.14165"),
    "GPT-2": (0.124, 0.124, WHOLE, "model card"),
    "GPT-2-XL": (1.56, 1.56, WHOLE, "model card"),
    "BLOOM-176B": (176.2, 176.2, WHOLE, "model card"),
    "OPT-66B": (65.7, 65.7, WHOLE, "model card (size of the weights)"),
    "FastVLM-0.5B": (0.494, 0.494, WHOLE, "its language model, Qwen2-0.5B"),
}
WHOLE_BILLIONS = {"Qwen3-Next-80B-A3B", "Qwen3.5-35B-A3B"}  # so active counts are published
KV_BYTES = {  # bf16 bytes per token, whole model
    "Llama-2-7B": 524_288,
    "Llama-3-8B": 131_072,
    "Llama-3-70B": 327_680,
    "Qwen2.5-7B": 57_344,
    "DeepSeek-V3": 70_272,
    "Kimi-K2": 70_272,
    "GPT-3-175B": 4_718_592,
    "gpt-oss-120b": 73_728,
    "Qwen3-Next-80B-A3B": 24_576,  # 12 of 48 layers keep keys and values
    "Gemma-4-31B": 901_120,  # 50 x 2 x 16 x 256 and 10 x 2 x 4 x 512 elements
}


@pytest.mark.parametrize("name", PUBLISHED_B)
def test_parameter_counts_match_the_published_ones(name):
    total, active, left_out, _ = PUBLISHED_B[name]
    shape = model(name)
    assert shape.params / 1e9 == pytest.approx(total, rel=0.02)
    counted = shape.active_params - left_out * shape.embedding_params
    slack = 0.5 if name in WHOLE_BILLIONS else 0.0
    assert counted / 1e9 == pytest.approx(active, rel=0.02, abs=slack)


@pytest.mark.parametrize("name", KV_BYTES)
def test_kv_bytes_per_token(name):
    assert model(name).kv_bytes_per_token() == KV_BYTES[name]
    assert model(name).kv_bytes_per_token("fp8") == KV_BYTES[name] / 2


def test_layers_that_cache_alike_are_a_group():
    def groups(name):
        return [(g.kind, g.layers, g.kv_heads, g.token_bytes) for g in model(name).kv_groups()]

    assert groups("Llama-3-8B") == [("full", 32, 8, 4096)]
    assert groups("gpt-oss-20b") == [("full", 12, 8, 2048), ("window", 12, 8, 2048)]
    assert groups("Gemma-4-31B") == [("full", 10, 4, 8192), ("window", 50, 16, 16384)]
    assert groups("DeepSeek-V3") == [("full", 61, 1, 1152)]
    assert model("Gemma-3-1B").kv_groups("fp8")[1].window == 512
    assert model("Gemma-3-1B").kv_groups("fp8")[1].token_bytes == 2 * 256

    full, linear = model("Qwen3-Next-80B-A3B").kv_groups()
    assert (full.kind, full.layers, full.token_bytes) == ("full", 12, 2048)
    assert (linear.kind, linear.layers, linear.token_bytes) == ("linear", 36, 0)
    # 8192 channels x 3 past inputs and 32 heads x 128 x 128, all in 16 bits
    assert linear.state_bytes == 2 * 8192 * 3 + 2 * 32 * 128 * 128
    assert model("Qwen3-Next-80B-A3B").full_layers == 12


def test_units_of_a_gpu():
    h100 = gpu("H100-SXM")
    assert h100.peak_flops("bf16") == 989.4e12
    assert h100.bandwidth_bytes_per_s == 3.35e12
    assert h100.scale_up_bytes_per_s == 450e9  # NVLink 4: 900 GB/s counts both directions
    assert h100.nic_bytes_per_s == 50e9  # 400 Gbit/s
    assert gpu("RTX-4090").memory_bytes == pytest.approx(25_250_627_584, rel=1e-4)


def test_every_row_is_complete_and_has_a_source():
    for name in gpu_names():
        entry = gpu(name)
        assert entry.source and entry.confidence in ("measured", "calibrated", "analogy")
        assert gpu(entry.like)
        assert all(math.isfinite(v) for v in vars(entry).values() if isinstance(v, float))
    for name in model_names():
        assert model(name).source and model(name).params > 1e8


KERNELS = {  # kernel: keys, None: those of the weights
    "gemm": None,
    "moe": None,
    "decode": ("bf16", "fp8"),
    "mla_decode": ("bf16", "fp8"),
    "allreduce": ("2", "4", "8"),
    "prefill": (None,),
    "mla_prefill": (None,),
    "mixed": (None,),
    "dispatch": (None,),
    "elementwise": (None,),
    "host": (None,),
}


@pytest.mark.parametrize("name", gpu_names())
def test_every_gpu_has_constants_of_every_kernel_for_every_format_it_computes(name):
    device = gpu(name)
    formats = [dtype for dtype, kind in DTYPES.items() if getattr(device, kind.math)]
    assert "fp16" in formats
    for kernel, keys in KERNELS.items():
        for key in formats if keys is None else keys:
            assert constants(kernel, device, key)["of"]


@pytest.mark.parametrize("name", ["B300-SXM", "GB300-NVL72", "MI355X", "H20", "RTX-5090"])
def test_gpus_that_nobody_timed_say_so(name):
    assert gpu(name).confidence == "analogy" and gpu(name).like != name


def test_second_names_are_the_same_model():
    assert model("Llama-3.1-8B") is model("Llama-3-8B")


def test_weight_bytes_by_format():
    llama = model("Llama-3-8B")
    assert llama.weight_bytes("bf16") == 2 * llama.params
    quantised = llama.params - llama.embedding_params
    assert llama.weight_bytes("fp8") == quantised + 2 * llama.embedding_params
    # released MXFP4 checkpoint of gpt-oss-120b: 60.8 GiB
    assert model("gpt-oss-120b").weight_bytes("mxfp4") / 2**30 == pytest.approx(60.8, rel=0.02)


@pytest.mark.parametrize(
    ("lookup", "name", "near"),
    [(gpu, "H100", "H100-SXM"), (model, "llama3-8b", "Llama-3-8B"), (gpu, "zzz", "use one of")],
)
def test_unknown_names_list_near_ones(lookup, name, near):
    with pytest.raises(ValueError, match=near):
        lookup(name)


def test_unsupported_format_names_the_usable_ones():
    with pytest.raises(ValueError, match="V100-16 has no bf16; use one of fp16"):
        gpu("V100-16").peak_flops("bf16")


GPU_ROW = {
    "sms": 100,
    "fp16_tflops": 400,
    "memory_gib": 64,
    "bandwidth_gbps": 2000,
    "like": "A100-80",
}
MODEL_ROW = {
    "layers": 2,
    "hidden": 256,
    "heads": 4,
    "head_dim": 64,
    "ffn": 512,
    "vocab": 1000,
}


def test_user_defined_entries():
    assert gpu_from("mine", GPU_ROW).fp16_flops == 4e14
    # 2 (4 256^2 + 3 256 512 + 2 256) + 2 1000 256, all four heads keep their own keys
    assert model_from("tiny", MODEL_ROW).params == 1_823_744


@pytest.mark.parametrize(
    ("build", "row", "field", "value", "message"),
    [
        (gpu_from, GPU_ROW, "bandwidth_gbps", -1, "bandwidth_gbps = -1"),
        (gpu_from, GPU_ROW, "memory_gib", float("nan"), "finite number"),
        (gpu_from, GPU_ROW, "bandwith_gbps", 5, "did you mean bandwidth_gbps"),
        (gpu_from, GPU_ROW, "like", "", "name the GPU whose kernels"),
        (gpu_from, GPU_ROW, "like", "H100", "like = 'H100'"),
        (gpu_from, GPU_ROW, "scale_up", "rope", "use one of nvlink"),
        (gpu_from, GPU_ROW, "sms", 1.5, "whole number"),
        (model_from, MODEL_ROW, "layers", 0, "layers = 0"),
        (model_from, MODEL_ROW, "vocab", "many", "not a number"),
        (model_from, MODEL_ROW, "kv_heads", 3, "must divide heads = 4"),
        (model_from, MODEL_ROW, "experts", 8, "active_experts"),
        (model_from, MODEL_ROW, "dense_layers", 1, "all 2 without"),
        (model_from, MODEL_ROW, "vocab", 10**400, "not a number"),
        (model_from, MODEL_ROW, "window_layers", 1, "window = 0: window_layers = 1 need it"),
        (model_from, MODEL_ROW, "window_layers", 3, "window_layers = 3: with linear_layers = 0"),
        (model_from, MODEL_ROW, "linear_layers", 1, "linear_params_m = 0: linear_layers = 1 need"),
        (model_from, MODEL_ROW, "full_kv_heads", 3, "must divide heads = 4"),
    ],
)
def test_bad_entries_name_field_value_and_remedy(build, row, field, value, message):
    with pytest.raises(ValueError, match=message):
        build("mine", {**row, field: value})


def test_missing_field_is_named():
    row = {k: v for k, v in GPU_ROW.items() if k != "sms"}
    with pytest.raises(ValueError, match="GPU 'mine': sms = '': missing"):
        gpu_from("mine", row)
