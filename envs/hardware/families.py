"""How families of architectures write their Hugging Face configuration.

Keys, and what the library assumes where one is missing: configuration classes of transformers
5.24.0 and the models' public configurations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class Family:
    """Where one family of architectures keeps what.

    Attributes:
        experts: keys of their number, of those active per token and of their width; None: dense.
        shared: keys whose product is the width of the experts that see every token.
        ffn: key of the width of dense layers.
        mla: attention is multi-head latent.
        window: key of the window; "": attention sees everything.
        every: key and default of n where only every n-th layer sees everything.
        linear: the other layers have linear attention, not a window.
        tied: by default, one matrix is both embedding and head.
        gated: feed-forward blocks have three matrices, not two.
        gate: by default, attention is gated.
        names: keys of this family, by what others call them.
        absent: what the library assumes where a key is missing.
        only: keys that may have this value only; others are not modelled.
    """

    experts: tuple[str, str, str] | None = None
    shared: tuple[str, ...] = ()
    ffn: str = "intermediate_size"
    mla: bool = False
    window: str = ""
    every: tuple[str, int] | None = None
    linear: bool = False
    tied: bool = False
    gated: bool = True
    gate: bool = False
    names: Mapping[str, str] = field(default_factory=dict)
    absent: Mapping[str, Any] = field(default_factory=dict)
    only: Mapping[str, Any] = field(default_factory=dict)


_LOCAL = ("num_local_experts", "num_experts_per_tok", "intermediate_size")
_COUNTED = ("num_experts", "num_experts_per_tok", "moe_intermediate_size")
_ROUTED = ("n_routed_experts", "num_experts_per_tok", "moe_intermediate_size")

_LLAMA = Family()
_MISTRAL = Family(window="sliding_window")
_QWEN = Family(window="sliding_window", absent={"use_sliding_window": False})
_QWEN3 = replace(_QWEN, absent={**_QWEN.absent, "head_dim": 128})
_QWEN_MOE = replace(
    _QWEN,
    experts=_COUNTED,
    shared=("shared_expert_intermediate_size",),
    absent={**_QWEN.absent, "shared_expert_intermediate_size": 0},
)
_QWEN_HYBRID = Family(
    every=("full_attention_interval", 4),
    linear=True,
    gate=True,
    absent={"mtp_num_hidden_layers": 1},
)
_QWEN_HYBRID_MOE = replace(_QWEN_HYBRID, experts=_COUNTED, shared=_QWEN_MOE.shared)
_GEMMA2 = Family(window="sliding_window", every=("sliding_window_pattern", 2), tied=True)
_GEMMA3 = replace(
    _GEMMA2,
    every=("sliding_window_pattern", 6),
    absent={
        "vocab_size": 262_208,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
    },
)
_GEMMA4 = replace(
    _GEMMA3,
    experts=("num_experts", "top_k_experts", "moe_intermediate_size"),
    shared=("intermediate_size",),
    absent={"num_experts": 0},
    only={"num_kv_shared_layers": 0, "hidden_size_per_layer_input": 0},
)
_GPT_OSS = Family(_LOCAL, window="sliding_window", every=("sliding_window_pattern", 2))
_GLM = Family(_ROUTED, ("n_shared_experts", "moe_intermediate_size"))
_DEEPSEEK = replace(_GLM, mla=True, absent={"n_shared_experts": 0})
_LLAMA4 = Family(
    _LOCAL,
    ("intermediate_size",),
    ffn="intermediate_size_mlp",
    window="attention_chunk_size",
    every=("no_rope_layer_interval", 4),
)
_GPT2 = Family(
    tied=True,
    gated=False,
    names={
        "num_hidden_layers": "n_layer",
        "hidden_size": "n_embd",
        "num_attention_heads": "n_head",
        "intermediate_size": "n_inner",
    },
)
_BLOOM = replace(_GPT2, names={**_GPT2.names, "hidden_size": "n_embed"})

FAMILIES: dict[str, Family] = {
    "LlamaForCausalLM": _LLAMA,
    "MistralForCausalLM": _MISTRAL,
    "Mistral3ForConditionalGeneration": _MISTRAL,
    "MixtralForCausalLM": replace(_MISTRAL, experts=_LOCAL),
    "Qwen2ForCausalLM": _QWEN,
    "Qwen2MoeForCausalLM": _QWEN_MOE,
    "Qwen2VLForConditionalGeneration": _QWEN,
    "Qwen2_5_VLForConditionalGeneration": _QWEN,
    "Qwen3ForCausalLM": _QWEN3,
    "Qwen3VLForConditionalGeneration": _QWEN3,
    "Qwen3MoeForCausalLM": _QWEN_MOE,
    "Qwen3VLMoeForConditionalGeneration": _QWEN_MOE,
    "Qwen3NextForCausalLM": _QWEN_HYBRID_MOE,
    "Qwen3_5ForConditionalGeneration": _QWEN_HYBRID,
    "Qwen3_5MoeForConditionalGeneration": _QWEN_HYBRID_MOE,
    "Gemma2ForCausalLM": _GEMMA2,
    "Gemma3ForCausalLM": _GEMMA3,
    "Gemma3ForConditionalGeneration": _GEMMA3,
    "Gemma4ForCausalLM": _GEMMA4,
    "Gemma4ForConditionalGeneration": _GEMMA4,
    "GptOssForCausalLM": _GPT_OSS,
    "DeepseekV2ForCausalLM": _DEEPSEEK,
    "DeepseekV3ForCausalLM": _DEEPSEEK,
    "DeepseekV32ForCausalLM": _DEEPSEEK,
    "KimiK2ForCausalLM": _DEEPSEEK,
    "KimiK25ForConditionalGeneration": _DEEPSEEK,
    "Glm4MoeForCausalLM": _GLM,
    "MiniMaxM2ForCausalLM": Family(
        _LOCAL, ("shared_intermediate_size",), absent={"shared_intermediate_size": 0}
    ),
    "Llama4ForCausalLM": _LLAMA4,
    "Llama4ForConditionalGeneration": _LLAMA4,
    "Phi3ForCausalLM": _MISTRAL,
    "OPTForCausalLM": Family(ffn="ffn_dim", tied=True, gated=False),
    "GPT2LMHeadModel": _GPT2,
    "BloomForCausalLM": _BLOOM,
}
"""Families by what a configuration's ``architectures`` says."""

NESTED = ("text_config", "llm_config", "language_config")
"""Tables in which a model that sees keeps its language model."""

OF_TYPES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "mixtral": "MixtralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "qwen3_moe": "Qwen3MoeForCausalLM",
    "gemma2": "Gemma2ForCausalLM",
    "gemma3_text": "Gemma3ForCausalLM",
    "deepseek_v2": "DeepseekV2ForCausalLM",
    "deepseek_v3": "DeepseekV3ForCausalLM",
    "glm4_moe": "Glm4MoeForCausalLM",
    "phi3": "Phi3ForCausalLM",
    "gpt2": "GPT2LMHeadModel",
}
"""What a nested table's ``model_type`` means where it names no architecture."""
