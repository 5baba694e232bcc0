"""Hugging Face configurations of models whose layers differ, or that see too."""

from huggingface_uniform import shape

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

ALTERNATING = {  # catalogue row: architecture, text of the configuration, what stands beside it
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
}
