"""Tiny models with random weights, one of each kind that transformers builds from a few settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from barnraise.models.causal_lm import quiet
from tests.support.tiny import VOCABULARY, make_tiny_tokenizer

_SETTINGS: dict[str, Any] = {
    "vocab_size": VOCABULARY, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    "hidden_size": 64, "n_embd": 64, "d_model": 64, "word_embed_proj_dim": 64, "embed_dim": 64,
    "num_hidden_layers": 2, "n_layer": 2, "n_layers": 2, "num_layers": 2, "decoder_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "n_head": 4, "n_heads": 4,
    "num_heads": 4, "attention_heads": 4, "decoder_attention_heads": 4, "rotary_dim": 8,
    "intermediate_size": 96, "n_inner": 96, "ffn_dim": 96, "d_ff": 96, "moe_intermediate_size": 48,
    "shared_expert_intermediate_size": 48, "num_local_experts": 4, "num_experts": 4, "num_experts_per_tok": 2,
    "max_position_embeddings": 128, "n_positions": 128, "max_seq_len": 128, "context_length": 128,
    "state_size": 8, "conv_kernel": 4, "mamba_d_state": 8, "mamba_dt_rank": 4, "mamba_n_heads": 8,
    "mamba_d_head": 16, "mamba_n_groups": 1, "attention_hidden_size": 64, "lru_width": 64,
    "attention_types": [[["global", "local"], 1]],
}  # fmt: skip
"""The same sizes under the names that configs use; a kind gets those that its config has."""

_LATENT: dict[str, Any] = {
    "num_key_value_heads": 4, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8,
    "v_head_dim": 16, "n_routed_experts": 4, "n_group": 2, "topk_group": 1, "first_k_dense_replace": 1,
    "n_shared_experts": 1,
}  # fmt: skip
_INDEXED: dict[str, Any] = {
    **_LATENT, "q_lora_rank": 16, "index_topk": 64, "index_head_dim": 16, "index_n_heads": 2,
}  # fmt: skip
_OWN: dict[str, dict[str, Any]] = {
    "axk1": {**_LATENT, "q_lora_rank": 16},
    "axk2": {**_LATENT, "q_lora_rank": 16},
    "cohere_compass_text": {
        "rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 1e4}},
    },
    "deepseek_v32": _INDEXED,
    "deepseek_v4": {
        "layer_types": ["compressed_sparse_attention", "heavily_compressed_attention"], "o_groups": 2,
        "compress_rates": {"compressed_sparse_attention": 4, "heavily_compressed_attention": 16},
        "q_lora_rank": 16, "o_lora_rank": 16, "index_n_heads": 2, "index_head_dim": 16, "index_topk": 4,
        "n_routed_experts": 4,
    },
    "dots1": {"n_shared_experts": 1, "n_routed_experts": 4, "num_experts_per_tok": 2},
    "gemma3n_text": {
        "num_hidden_layers": 4, "num_kv_shared_layers": 0, "hidden_size_per_layer_input": 16,
        "laurel_rank": 8, "vocab_size_per_layer_input": VOCABULARY, "intermediate_size": [96] * 4,
        "layer_types": ["sliding_attention", "full_attention"] * 2, "activation_sparsity_pattern": [0.0] * 4,
    },
    "gemma4_text": {
        "num_hidden_layers": 2, "layer_types": ["sliding_attention", "full_attention"],
        "hidden_size_per_layer_input": 16, "vocab_size_per_layer_input": VOCABULARY, "per_layer_config": {},
    },
    "glm4_moe_lite": {**_LATENT, "q_lora_rank": 16},
    "glm_moe_dsa": _INDEXED,
    "reformer": {
        "is_decoder": True, "attn_layers": ["local", "lsh"], "axial_pos_embds": False,
        "feed_forward_size": 96, "attention_head_size": 16, "num_buckets": 4, "local_attn_chunk_length": 8,
        "lsh_attn_chunk_length": 8,
    },
    "xlnet": {"d_inner": 96},
    "minicpm3": {**_LATENT, "q_lora_rank": 16},
    "youtu": {**_LATENT, "q_lora_rank": 16},
    "zamba": {
        "num_hidden_layers": 4, "layer_types": ["mamba", "hybrid"] * 2, "use_mamba_kernels": False,
        "attention_head_dim": 32, "attention_hidden_size": 128,
    },
    "zaya": {"num_experts_per_tok": 1, "router_hidden_size": 16},
    "bamba": {"attn_layer_indices": [1], "mamba_chunk_size": 16},
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "clip_qkv": 8, "rope_theta": 1e4},
        "ffn_config": {"ffn_hidden_size": 64, "moe_num_experts": 4, "moe_top_k": 2, "hidden_size": 64},
    },
    "deepseek_v2": {**_LATENT, "q_lora_rank": None, "topk_method": "greedy"},
    "deepseek_v3": {**_LATENT, "q_lora_rank": 16},
    "ernie4_5_moe": {"moe_num_experts": 4, "moe_k": 2, "moe_layer_start_index": 1},
    "falcon_h1": {"mamba_d_ssm": 128, "mamba_expand": 2, "mamba_chunk_size": 16},
    "glm4_moe": {"n_routed_experts": 4, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1},
    "granitemoehybrid": {
        "layer_types": ["mamba", "attention"], "shared_intermediate_size": 48, "mamba_chunk_size": 16,
    },
    "hunyuan_v1_moe": {"moe_topk": 2},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"], "num_dense_layers": 1},
    "minimax": {"layer_types": ["linear_attention", "full_attention"], "block_size": 16},
    "zamba2": {
        "num_hidden_layers": 4, "layers_block_type": ["mamba", "hybrid", "mamba", "hybrid"],
        "hybrid_layer_ids": [1, 3], "num_mem_blocks": 1, "mamba_ngroups": 1, "n_mamba_heads": 8,
        "mamba_headdim": 16, "chunk_size": 16, "attention_head_dim": 32, "attention_hidden_size": 128,
        "num_key_value_heads": 4, "use_mem_eff_path": False,
    },
    "jamba": {
        "num_hidden_layers": 2, "attn_layer_offset": 1, "attn_layer_period": 2, "expert_layer_offset": 1,
        "expert_layer_period": 2, "use_mamba_kernels": False,
    },
    "recurrent_gemma": {"num_hidden_layers": 3, "attention_window_size": 16},
    "mamba2": {"num_heads": 8, "head_dim": 16, "n_groups": 1, "expand": 2, "chunk_size": 16},
    "mpt": {"expansion_ratio": 2},
    "qwen3_next": {"layer_types": ["linear_attention", "full_attention"]},
}  # fmt: skip
_LEFT_OUT = dict.fromkeys(
    (
        "axk1",
        "axk2",
        "deepseek_v2",
        "deepseek_v3",
        "deepseek_v32",
        "falcon",
        "glm4_moe_lite",
        "glm_moe_dsa",
        "minicpm3",
        "youtu",
    ),
    ("head_dim",),
) | {"xlnet": ("max_position_embeddings",)}
"""Settings that a config derives from others."""


def make_kind(kind: str, folder: Path, **settings: Any) -> Path:
    """Write a model of `kind` (model_type) with a byte tokenizer. settings: further ones of its config."""
    default = AutoConfig.for_model(kind)
    names = {*default.to_dict(), *(name for name in _SETTINGS if name in dir(default))}
    known = {name: value for name, value in _SETTINGS.items() if name in names}
    chosen = known | _OWN.get(kind, {}) | settings
    config = AutoConfig.for_model(
        kind, **{name: value for name, value in chosen.items() if name not in _LEFT_OUT.get(kind, ())}
    )
    torch.manual_seed(0)
    with quiet():
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    make_tiny_tokenizer().save_pretrained(folder)
    return folder
