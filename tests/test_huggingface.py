"""Hugging Face configurations: each family reads as its catalogue row, scenarios may name one."""

import json

import pytest
from huggingface_alternating import MIX
from huggingface_configs import CASES, shapes, written
from huggingface_uniform import latent

from gpuyard.envs.hardware import huggingface
from gpuyard.envs.hardware.catalogue import model
from gpuyard.envs.hardware.families import FAMILIES, OF_TYPES
from gpuyard.envs.scenario import ScenarioError
from gpuyard.envs.scenario.read import from_dict, load


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
        "Qwen2VLForConditionalGeneration",
        "Qwen2_5_VLForConditionalGeneration",
        "Qwen3VLForConditionalGeneration",
        "Qwen3VLMoeForConditionalGeneration",
        "Qwen3_5ForConditionalGeneration",
        "Gemma4ForCausalLM",
        "Llama4ForCausalLM",
    }
    assert {case[0] for case in CASES.values()} | nested_alike == set(FAMILIES)


@pytest.mark.parametrize("table", ["text_config", "llm_config", "language_config"])
@pytest.mark.parametrize("name", ["Qwen2.5-7B", "Llama-3-8B", "DeepSeek-V3"])
@pytest.mark.parametrize("said", ["architectures", "model_type"])
def test_the_language_model_of_one_that_sees(name, table, said, tmp_path):
    """LLaVA and InternVL, among others, are none of the families, and what is in them is."""
    architecture, text = CASES[name]
    kind = {value: key for key, value in OF_TYPES.items()}[architecture]
    named = {"architectures": [architecture]} if said == "architectures" else {"model_type": kind}
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"architectures": ["SomeVLChatModel"], table: {**text, **named}}))
    assert shapes(huggingface.read(path)) == shapes(model(name))
    path.write_text(json.dumps({"architectures": ["SomeVLChatModel"], table: text}))
    with pytest.raises(
        ValueError, match=r"architectures = \['SomeVLChatModel'\]: use one of Llama"
    ):
        huggingface.read(path)


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
