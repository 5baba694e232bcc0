"""Catalogues: published parameter counts, units, user entries and their errors."""

import math

import pytest

from gpuyard.envs.hardware.catalogue import gpu, gpu_from, gpu_names, model, model_from, model_names

PUBLISHED_B = {  # model cards and papers: parameters, active parameters, in billions
    "Llama-2-7B": (6.74, 6.74),
    "Llama-2-13B": (13.0, 13.0),
    "Llama-2-70B": (69.0, 69.0),
    "Llama-3-8B": (8.03, 8.03),
    "Llama-3-70B": (70.6, 70.6),
    "Llama-3-405B": (405.9, 405.9),
    "Qwen2.5-7B": (7.61, 7.61),
    "Qwen2.5-32B": (32.8, 32.8),
    "Qwen2.5-72B": (72.7, 72.7),
    "Qwen3-32B": (32.8, 32.8),
    "Qwen3-30B-A3B": (30.5, 3.3),
    "Qwen3-235B-A22B": (235, 22),
    "Mixtral-8x7B": (46.7, 12.9),
    "DeepSeek-V3": (671, 37.6),
    "Kimi-K2": (1026, 32.9),
    "gpt-oss-120b": (116.8, 5.7),
    "GPT-3-175B": (175, 175),
    "GPT-2": (0.124, 0.124),
    "GPT-2-XL": (1.56, 1.56),
    "BLOOM-176B": (176.2, 176.2),
    "OPT-66B": (65.7, 65.7),
    "FastVLM-0.5B": (0.494, 0.494),
}
KV_BYTES = {  # bf16 bytes per token, whole model
    "Llama-2-7B": 524_288,
    "Llama-3-8B": 131_072,
    "Llama-3-70B": 327_680,
    "Qwen2.5-7B": 57_344,
    "DeepSeek-V3": 70_272,
    "Kimi-K2": 70_272,
    "GPT-3-175B": 4_718_592,
    "gpt-oss-120b": 73_728,
}


@pytest.mark.parametrize("name", PUBLISHED_B)
def test_parameter_counts_match_the_published_ones(name):
    total, active = PUBLISHED_B[name]
    assert model(name).params / 1e9 == pytest.approx(total, rel=0.01)
    assert model(name).active_params / 1e9 == pytest.approx(active, rel=0.02)


@pytest.mark.parametrize("name", KV_BYTES)
def test_kv_bytes_per_token(name):
    assert model(name).kv_bytes_per_token() == KV_BYTES[name]
    assert model(name).kv_bytes_per_token("fp8") == KV_BYTES[name] / 2


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
    ],
)
def test_bad_entries_name_field_value_and_remedy(build, row, field, value, message):
    with pytest.raises(ValueError, match=message):
        build("mine", {**row, field: value})


def test_missing_field_is_named():
    row = {k: v for k, v in GPU_ROW.items() if k != "sms"}
    with pytest.raises(ValueError, match="GPU 'mine': sms = '': missing"):
        gpu_from("mine", row)
