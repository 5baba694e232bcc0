"""Hugging Face configurations of models all of whose layers are alike."""


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


OFF = {"sliding_window": 131072, "use_sliding_window": False, "max_window_layers": 28}
GLM = {
    "head_dim": 128,
    "n_routed_experts": 160,
    "num_experts_per_tok": 8,
    "moe_intermediate_size": 1536,
    "n_shared_experts": 1,
    "first_k_dense_replace": 3,
    "num_nextn_predict_layers": 1,
}
KIMI = latent(61, 7168, 64, 18432, 163840, 384, 8, 2048, 1, 1)
DEEPSEEK = latent(61, 7168, 128, 18432, 129280, 256, 8, 2048, 1, 3)
DEEPSEEK["num_nextn_predict_layers"] = 1

UNIFORM = {  # catalogue row: architecture, text of the configuration, what stands beside it
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
