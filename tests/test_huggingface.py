"""Hugging Face configurations: each family reads as its catalogue row, errors say what to mend."""

import dataclasses
import json

import pytest

from gpuyard.envs.hardware import huggingface
from gpuyard.envs.hardware.catalogue import model
from gpuyard.envs.hardware.families import FAMILIES
from gpuyard.envs.scenario import ScenarioError
from gpuyard.envs.scenario.read import from_dict, load


def shape(layers, hidden, heads, kv_heads, ffn, vocab, **more):
    """Return the keys that most families share."""
    return {
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "intermediate_size": ffn,
        "vocab_size": vocab,
        **more,
    }


def latent(layers, hidden, heads, ffn, vocab, experts, active, width, shared, dense):
    """Return the keys of a model with multi-head latent attention."""
    return shape(
        layers,
        hidden,
        heads,
        heads,
        ffn,
        vocab,
        q_lora_rank=1536,
        kv_lora_rank=512,
        qk_nope_head_dim=128,
        qk_rope_head_dim=64,
        v_head_dim=128,
        n_routed_experts=experts,
        num_experts_per_tok=active,
        moe_intermediate_size=width,
        n_shared_experts=shared,
        first_k_dense_replace=dense,
        moe_layer_freq=1,
    )


SIGLIP = {"num_hidden_layers": 27, "hidden_size": 1152, "intermediate_size": 4304}
LLAMA4 = {
    "head_dim": 128,
    "intermediate_size_mlp": 16384,
    "num_experts_per_tok": 1,
    "attention_chunk_size": 8192,
    "max_position_embeddings": 1_048_576,
}
LLAMA4_VISION = {
    "num_hidden_layers": 34,
    "hidden_size": 1408,
    "intermediate_size": 5632,
    "image_size": 336,
    "patch_size": 14,
    "pixel_shuffle_ratio": 0.5,
}
DELTA_NET = {
    "head_dim": 256,
    "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 128,
    "linear_num_key_heads": 16,
    "linear_num_value_heads": 32,
    "linear_value_head_dim": 128,
}
OFF = {"sliding_window": 131072, "use_sliding_window": False, "max_window_layers": 28}
GLM = {
    "head_dim": 128,
    "n_routed_experts": 160,
    "num_experts_per_tok": 8,
    "moe_intermediate_size": 1536,
    "n_shared_experts": 1,
    "first_k_dense_replace": 3,
}
GEMMA4 = {
    "head_dim": 256,
    "global_head_dim": 512,
    "sliding_window": 1024,
    "max_position_embeddings": 262144,
    "num_kv_shared_layers": 0,
    "hidden_size_per_layer_input": 0,
}
MIX = ["sliding_attention", "full_attention"]
FIVE_TO_ONE = [MIX[0]] * 5 + [MIX[1]]
KIMI = latent(61, 7168, 64, 18432, 163840, 384, 8, 2048, 1, 1)
DEEPSEEK = latent(61, 7168, 128, 18432, 129280, 256, 8, 2048, 1, 3)

CASES = {  # catalogue row: architecture, text of the configuration, what stands beside it
    "Llama-3-8B": ("LlamaForCausalLM", shape(32, 4096, 32, 8, 14336, 128256)),
    "Llama-3.2-1B": (
        "LlamaForCausalLM",
        shape(16, 2048, 32, 8, 8192, 128256, head_dim=64, tie_word_embeddings=True),
    ),
    "Mistral-7B": ("MistralForCausalLM", shape(32, 4096, 32, 8, 14336, 32768, sliding_window=None)),
    "Mistral-Nemo-12B": (
        "MistralForCausalLM",
        shape(40, 5120, 32, 8, 14336, 131072, head_dim=128, sliding_window=None),
    ),
    "Mixtral-8x22B": (
        "MixtralForCausalLM",
        shape(56, 6144, 48, 8, 16384, 32768, num_local_experts=8, num_experts_per_tok=2),
    ),
    "Qwen2.5-7B": ("Qwen2ForCausalLM", shape(28, 3584, 28, 4, 18944, 152064, **OFF)),
    "Qwen2.5-1.5B": (
        "Qwen2ForCausalLM",
        shape(28, 1536, 12, 2, 8960, 151936, tie_word_embeddings=True, **OFF),
    ),
    "Qwen2-57B-A14B": (
        "Qwen2MoeForCausalLM",
        shape(
            *(28, 3584, 28, 4, 18944, 151936),
            num_experts=64,
            num_experts_per_tok=8,
            moe_intermediate_size=2560,
            shared_expert_intermediate_size=20480,
            decoder_sparse_step=1,
            **OFF,
        ),
    ),
    "Qwen3-4B": (
        "Qwen3ForCausalLM",
        shape(36, 2560, 32, 8, 9728, 151936, head_dim=128, tie_word_embeddings=True),
    ),
    "Qwen3-30B-A3B": (
        "Qwen3MoeForCausalLM",
        shape(
            *(48, 2048, 32, 4, 6144, 151936),
            head_dim=128,
            num_experts=128,
            num_experts_per_tok=8,
            moe_intermediate_size=768,
            decoder_sparse_step=1,
            mlp_only_layers=[],
        ),
    ),
    "Qwen3-Next-80B-A3B": (
        "Qwen3NextForCausalLM",
        shape(
            *(48, 2048, 16, 2, 5120, 151936),
            num_experts=512,
            num_experts_per_tok=10,
            moe_intermediate_size=512,
            shared_expert_intermediate_size=512,
            full_attention_interval=4,
            mlp_only_layers=[],
            **DELTA_NET,
        ),
    ),
    "Qwen3.5-35B-A3B": (
        "Qwen3_5MoeForConditionalGeneration",
        shape(
            *(40, 2048, 16, 2, None, 248320),
            num_experts=256,
            num_experts_per_tok=8,
            moe_intermediate_size=512,
            shared_expert_intermediate_size=512,
            layer_types=[*["linear_attention"] * 3, "full_attention"] * 10,
            mamba_ssm_dtype="float32",
            attn_output_gate=True,
            **DELTA_NET,
        ),
        {
            "vision_config": {"depth": 27, "hidden_size": 1152, "intermediate_size": 4304},
            "tie_word_embeddings": False,
        },
    ),
    "Gemma-2-9B": (
        "Gemma2ForCausalLM",
        shape(42, 3584, 16, 8, 14336, 256000, head_dim=256, sliding_window=4096),
    ),
    "Gemma-3-1B": (
        "Gemma3ForCausalLM",
        shape(
            *(26, 1152, 4, 1, 6912, 262144),
            head_dim=256,
            sliding_window=512,
            sliding_window_pattern=6,
        ),
    ),
    "Gemma-3-4B": (  # the published file says no more
        "Gemma3ForConditionalGeneration",
        {
            "hidden_size": 2560,
            "intermediate_size": 10240,
            "num_hidden_layers": 34,
            "sliding_window": 1024,
        },
        {"vision_config": SIGLIP, "mm_tokens_per_image": 256},
    ),
    "Gemma-4-31B": (
        "Gemma4ForConditionalGeneration",
        shape(
            *(60, 5376, 32, 16, 21504, 262144),
            layer_types=FIVE_TO_ONE * 10,
            num_global_key_value_heads=4,
            num_experts=None,
            tie_word_embeddings=True,
            **GEMMA4,
        ),
        {
            "vision_config": {**SIGLIP, "model_type": "gemma4_vision"},
            "vision_soft_tokens_per_image": 280,
        },
    ),
    "Gemma-4-26B-A4B": (
        "Gemma4ForConditionalGeneration",
        shape(
            *(30, 2816, 16, 8, 2112, 262144),
            layer_types=FIVE_TO_ONE * 5,
            num_global_key_value_heads=2,
            num_experts=128,
            top_k_experts=8,
            moe_intermediate_size=704,
            **GEMMA4,
        ),
        {
            "vision_config": {**SIGLIP, "model_type": "gemma4_vision"},
            "vision_soft_tokens_per_image": 280,
        },
    ),
    "gpt-oss-20b": (
        "GptOssForCausalLM",
        shape(
            *(24, 2880, 64, 8, 2880, 201088),
            head_dim=64,
            num_local_experts=32,
            num_experts_per_tok=4,
            layer_types=MIX * 12,
            sliding_window=128,
        ),
    ),
    "DeepSeek-V2": (
        "DeepseekV2ForCausalLM",
        latent(60, 5120, 128, 12288, 102400, 160, 6, 1536, 2, 1),
    ),
    "DeepSeek-V3": ("DeepseekV3ForCausalLM", DEEPSEEK),
    "DeepSeek-V3.2": ("DeepseekV32ForCausalLM", DEEPSEEK | {"index_topk": 2048}),
    "Kimi-K2": ("KimiK2ForCausalLM", KIMI),
    "Kimi-K2.5": ("KimiK25ForConditionalGeneration", KIMI, {"vision_config": {"vt_depth": 27}}),
    "GLM-4.5": ("Glm4MoeForCausalLM", shape(92, 5120, 96, 8, 12288, 151552, **GLM)),
    "MiniMax-M2": (
        "MiniMaxM2ForCausalLM",
        shape(
            *(62, 3072, 48, 8, 1536, 200064),
            head_dim=128,
            num_local_experts=256,
            num_experts_per_tok=8,
            shared_intermediate_size=0,
        ),
    ),
    "Llama-4-Scout": (
        "Llama4ForConditionalGeneration",
        shape(
            *(48, 5120, 40, 8, 8192, 202048),
            num_local_experts=16,
            interleave_moe_layer_step=1,
            **LLAMA4,
        ),
        {"vision_config": LLAMA4_VISION},
    ),
    "Llama-4-Maverick": (
        "Llama4ForConditionalGeneration",
        shape(
            *(48, 5120, 40, 8, 8192, 202048),
            num_local_experts=128,
            interleave_moe_layer_step=2,
            no_rope_layers=[1, 1, 1, 0] * 12,
            **LLAMA4,
        ),
        {"vision_config": LLAMA4_VISION},
    ),
    "Phi-3-mini": (
        "Phi3ForCausalLM",
        shape(
            *(32, 3072, 32, 32, 8192, 32064),
            sliding_window=262144,
            max_position_embeddings=131072,
        ),
    ),
    "OPT-13B": (
        "OPTForCausalLM",
        {
            "num_hidden_layers": 40,
            "hidden_size": 5120,
            "num_attention_heads": 40,
            "ffn_dim": 20480,
            "vocab_size": 50272,
        },
    ),
    "GPT-2-XL": (
        "GPT2LMHeadModel",
        {"n_layer": 48, "n_embd": 1600, "n_head": 25, "n_inner": None, "vocab_size": 50257},
    ),
    "BLOOM-176B": (
        "BloomForCausalLM",
        {"n_layer": 70, "hidden_size": 14336, "num_attention_heads": 112, "vocab_size": 250880},
    ),
}
NESTED = "ForConditionalGeneration"


def written(folder, architecture, text, beside=None):
    """Write a configuration; return its path."""
    content = {"text_config": text} if architecture.endswith(NESTED) else text
    whole = {"architectures": [architecture], **content, **(beside or {})}
    path = folder / "config.json"
    path.write_text(json.dumps(whole))
    return path


def shapes(entry):
    """Return what the numbers say."""
    row = dataclasses.asdict(entry)
    return {key: row[key] for key in row if key not in ("name", "confidence", "source")}


@pytest.mark.parametrize("name", CASES)
def test_a_configuration_reads_as_the_row_of_the_catalogue(name, tmp_path):
    folder = tmp_path / name
    folder.mkdir()
    path = written(folder, *CASES[name])
    read = huggingface.read(path)
    assert shapes(read) == shapes(model(name))
    assert read.name == name
    assert read.source == f"{path} ({CASES[name][0]})"
    row, origin = huggingface.columns(path)
    assert set(origin) == set(row) - {"confidence", "source"}


def test_every_family_has_a_case():
    nested_alike = {  # the same text configuration inside a model that also sees
        "Mistral3ForConditionalGeneration",
        "Qwen3VLForConditionalGeneration",
        "Qwen3VLMoeForConditionalGeneration",
        "Qwen3_5ForConditionalGeneration",
        "Gemma4ForCausalLM",
        "Llama4ForCausalLM",
    }
    assert {case[0] for case in CASES.values()} | nested_alike == set(FAMILIES)


@pytest.mark.parametrize(
    ("name", "more", "window_layers", "window"),
    [
        ("Mistral-7B", {"sliding_window": 4096}, 32, 4096),  # v0.1
        ("Phi-3-mini", {"sliding_window": 2047, "max_position_embeddings": 4096}, 32, 2047),
        ("Qwen2.5-7B", {"use_sliding_window": True, "max_window_layers": 21}, 7, 131072),
        ("Gemma-3-1B", {"layer_types": MIX * 13}, 13, 512),
        ("gpt-oss-20b", {"layer_types": None}, 12, 128),
    ],
)
def test_windows(name, more, window_layers, window, tmp_path):
    architecture, text = CASES[name]
    read = huggingface.read(written(tmp_path, architecture, text | more))
    assert (read.window_layers, read.window) == (window_layers, window)


@pytest.mark.parametrize(
    ("more", "dense"),
    [
        ({"mlp_only_layers": [0, 1, 47]}, 3),
        ({"decoder_sparse_step": 2}, 24),
        ({"decoder_sparse_step": 2, "mlp_only_layers": [0, 1]}, 25),
    ],
)
def test_layers_without_experts(more, dense, tmp_path):
    architecture, text = CASES["Qwen3-30B-A3B"]
    read = huggingface.read(written(tmp_path, architecture, text | more))
    assert (read.dense_layers, read.ffn) == (dense, 6144)


def test_uncompressed_queries_of_latent_attention(tmp_path):
    """DeepSeek-V2-Lite: 15.7 billion parameters, 2.4 active (arXiv 2405.04434)."""
    text = latent(27, 2048, 16, 10944, 102400, 64, 6, 1408, 2, 1) | {"q_lora_rank": None}
    lite = huggingface.read(written(tmp_path, "DeepseekV2ForCausalLM", text))
    assert lite.params / 1e9 == pytest.approx(15.7, rel=0.02)
    assert (lite.active_params - lite.embedding_params / 2) / 1e9 == pytest.approx(2.4, rel=0.04)


BAD = [  # a case, what is changed, what the error must say
    ("Llama-3-8B", {"architectures": ["MambaForCausalLM"]}, "architectures = .*use one of Llama"),
    ("Llama-3-8B", {"architectures": None}, "architectures = None: use one of Llama"),
    ("Llama-3-8B", {"architectures": [["x"]]}, "architectures = .*use one of"),
    ("Llama-3-8B", {"num_hidden_layers": None}, "num_hidden_layers = None: missing; give a whole"),
    ("Llama-3-8B", {"num_hidden_layers": 10**9}, "num_hidden_layers = .*1 to 10000"),
    ("Llama-3-8B", {"hidden_size": 10**400}, "hidden_size = huge: give a whole number, 1 to"),
    ("Llama-3-8B", {"hidden_size": "4096"}, "hidden_size = '4096': give a whole number"),
    ("Llama-3-8B", {"hidden_size": 4096.5}, "hidden_size = 4096.5: give a whole number"),
    ("Llama-3-8B", {"hidden_size": float("inf")}, "hidden_size = inf: give a whole number"),
    ("Llama-3-8B", {"hidden_size": True}, "hidden_size = True: give a whole number"),
    ("Llama-3-8B", {"hidden_size": 4097}, "hidden_size = 4097: must be a multiple of 32 heads"),
    ("Llama-3-8B", {"hidden_size": [4096] * 99}, r"hidden_size = \[4096.*\.\.\.: give a whole"),
    ("Llama-3-8B", {"num_key_value_heads": 3}, "kv_heads = 3: it must divide heads = 32"),
    ("Llama-3-8B", {"vocab_size": -1}, "vocab_size = -1: give a whole number, 1 to"),
    ("Llama-3-8B", {"tie_word_embeddings": "no"}, "tie_word_embeddings = 'no': give true or false"),
    ("Llama-3-8B", {"layer_types": ["full_attention"]}, "layer_types = .*give a list of 32, each"),
    ("gpt-oss-20b", {"layer_types": ["mamba"] * 24}, "layer_types = .*one of full_attention"),
    ("gpt-oss-20b", {"sliding_window": None}, "sliding_window = None: missing; layer_types has"),
    ("Llama-3-8B", {"layer_types": MIX * 16}, "sliding_window = None: missing; layer_types has"),
    ("gpt-oss-20b", {"num_local_experts": None}, "num_local_experts = None: missing"),
    ("gpt-oss-20b", {"num_experts_per_tok": 64}, "active_experts = 64: at most experts = 32"),
    ("Qwen3-30B-A3B", {"mlp_only_layers": "all"}, "mlp_only_layers = 'all': give a list of whole"),
    ("Qwen3-30B-A3B", {"decoder_sparse_step": 0}, "decoder_sparse_step = 0: give a whole number"),
    ("Qwen3-Next-80B-A3B", {"mamba_ssm_dtype": "fp8"}, "mamba_ssm_dtype = 'fp8': use one of float"),
    ("Qwen3-Next-80B-A3B", {"mamba_ssm_dtype": [[]]}, "mamba_ssm_dtype = .*: use one of float"),
    ("Qwen3-Next-80B-A3B", {"linear_key_head_dim": None}, "linear_key_head_dim = None: missing"),
    ("DeepSeek-V3", {"kv_lora_rank": None}, "kv_lora_rank = None: missing"),
    ("DeepSeek-V3", {"v_head_dim": 192}, "v_head_dim = 192: only qk_nope_head_dim = 128 is"),
    ("Gemma-4-31B", {"text_config": 5}, "text_config = 5: must be an object"),
    ("Llama-4-Scout", {"vision_config": 5}, "vision_config = 5: must be an object"),
]


@pytest.mark.parametrize(("name", "change", "message"), BAD)
def test_bad_values_name_file_key_value_and_remedy(name, change, message, tmp_path):
    architecture, text, *beside = CASES[name]
    path = written(tmp_path, architecture, text, {**(beside[0] if beside else {}), **change})
    with pytest.raises(ValueError, match=message) as raised:
        huggingface.read(path)
    assert str(raised.value).startswith(f"{path}: ")
    assert "\n" not in str(raised.value)


def test_what_a_nested_table_lacks_is_named_with_its_table(tmp_path):
    architecture, text, beside = CASES["Gemma-4-31B"]
    path = written(tmp_path, architecture, text | {"num_kv_shared_layers": 18}, beside)
    with pytest.raises(
        ValueError, match=r"text_config\.num_kv_shared_layers = 18: only 0 is model"
    ):
        huggingface.read(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "is not JSON"),
        (b"[1, 2]", "is not a JSON object"),
        (b"\xff\xfe\x00", "is not UTF-8 text"),
        (b"[" * 100_000, "is not JSON"),
        (b'{"architectures": ' + b"9" * 5000 + b"}", "is not JSON"),
        (b"", "is not JSON"),
    ],
)
def test_files_that_are_no_configuration(content, message, tmp_path):
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        huggingface.read(path)


@pytest.mark.parametrize("name", ["missing.json", "."])
def test_files_that_cannot_be_opened(name, tmp_path):
    with pytest.raises(ValueError, match="cannot be opened"):
        huggingface.read(tmp_path / name)


SCENARIO = """
[[replicas]]
gpu = "H100-SXM"
model = "mine/config.json"
[workload]
preset = "chat"
num_requests = 8
rate_per_s = 1.0
"""


def test_a_replica_runs_the_model_of_a_configuration_beside_the_scenario(tmp_path):
    (tmp_path / "mine").mkdir()
    written(tmp_path / "mine", *CASES["Llama-3-8B"])
    path = tmp_path / "own.toml"
    path.write_text(SCENARIO)
    named = tmp_path / "named.toml"
    named.write_text(SCENARIO.replace("mine/config.json", "Llama-3-8B"))
    own, known = load(path).replicas[0], load(named).replicas[0]
    assert own.deployment.model.name == "mine"
    assert (own.kv_blocks, own.capacity) == (known.kv_blocks, known.capacity)


def test_a_replica_with_a_bad_configuration_is_an_error_of_the_scenario(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text(SCENARIO)
    with pytest.raises(ScenarioError, match=r"own.toml: replicas\[0\]: .*cannot be opened"):
        load(path)


def test_jobs_train_the_model_of_a_configuration(tmp_path):
    written(tmp_path, *CASES["Qwen2.5-1.5B"])
    table = {
        "cluster": {"pools": [{"gpu": "H100-SXM", "nodes": 8}], "fabric": {"nodes_per_leaf": 2}},
        "jobs": {"preset": "mixed", "num_jobs": 4, "max_gpus": 8},
    }
    table["jobs"]["profiles"] = {"config.json": 1.0}
    jobs = from_dict(table, folder=tmp_path).jobs
    assert shapes(jobs.models["config.json"]) == shapes(model("Qwen2.5-1.5B"))
    table["jobs"]["profiles"] = {"none.json": 1.0}
    with pytest.raises(ScenarioError, match=r"jobs.profiles: .*none.json: cannot be opened"):
        from_dict(table, folder=tmp_path)
