"""Hugging Face configurations that cannot be read: errors say what to mend."""

import pytest
from huggingface_alternating import MIX
from huggingface_configs import CASES, written

from gpuyard.envs.hardware import huggingface

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
