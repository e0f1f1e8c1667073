"""Tiny models of many kinds, with values that differ from every default, and a byte tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from barnraise.models.causal_lm import quiet
from tests.support.tiny import VOCABULARY, make_tiny_tokenizer

_SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512,
    "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "rms_norm_eps": 1e-3, "initializer_range": 0.1,
}  # fmt: skip
_ROPE: dict[str, Any] = {"rope_parameters": {"rope_type": "default", "rope_theta": 50_000.0}}
_LLAMA: dict[str, Any] = {**_SIZES, **_ROPE}
_GPT2: dict[str, Any] = {
    "vocab_size": VOCABULARY, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 512,
    "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "layer_norm_epsilon": 1e-3,
    "initializer_range": 0.1,
}  # fmt: skip
_LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 20_000.0, "factor": 8.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 64,
}  # fmt: skip
_LINEAR = {"rope_type": "linear", "rope_theta": 2e4, "factor": 2.0}
_YARN = {"rope_type": "yarn", "rope_theta": 2e4, "factor": 4.0, "original_max_position_embeddings": 64}
_QKV = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
_GEMMA: dict[str, Any] = {**_SIZES, "head_dim": 32, "query_pre_attn_scalar": 24}

KINDS: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
    "llama": ("llama", {**_LLAMA, "tie_word_embeddings": False}, _QKV),
    "llama, tied": ("llama", {**_LLAMA, "tie_word_embeddings": True}, _QKV),
    "llama, head_dim": ("llama", {**_LLAMA, "head_dim": 32}, _QKV),
    "llama, biases": ("llama", {**_LLAMA, "attention_bias": True}, _QKV),
    "llama, llama3 rope": ("llama", {**_SIZES, "rope_parameters": _LLAMA3}, _QKV),
    "llama, linear rope": (
        "llama", {**_SIZES, "rope_parameters": _LINEAR}, _QKV,
    ),
    "llama, yarn rope": ("llama", {**_SIZES, "rope_parameters": _YARN}, _QKV),
    "mistral": ("mistral", {**_LLAMA, "sliding_window": None}, _QKV),
    "mistral, window": ("mistral", {**_LLAMA, "sliding_window": 32}, _QKV),
    "qwen2": ("qwen2", _LLAMA, _QKV),
    "qwen2, tied": ("qwen2", {**_LLAMA, "tie_word_embeddings": True}, _QKV),
    "qwen2, window": (
        "qwen2",
        {**_LLAMA, "use_sliding_window": True, "sliding_window": 32, "max_window_layers": 0},
        _QKV,
    ),
    "qwen3": ("qwen3", {**_LLAMA, "head_dim": 32}, _QKV),
    "smollm3": ("smollm3", {**_LLAMA, "no_rope_layer_interval": 2}, _QKV),
    "gemma": ("gemma", {**_SIZES, **_ROPE, "head_dim": 32}, _QKV),
    "gemma2": ("gemma2", {**_GEMMA, **_ROPE, "sliding_window": 32}, _QKV),
    "gemma3": ("gemma3_text", {**_GEMMA, "sliding_window": 32}, _QKV),
    "phi3": ("phi3", {**_LLAMA, "resid_pdrop": 0.0}, ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")),
    "gpt2": ("gpt2", {**_GPT2, "n_inner": 96}, ("c_attn", "c_proj", "c_fc")),
    "gpt2, square": ("gpt2", {**_GPT2, "n_inner": 64}, ("c_proj", "c_fc")),
    "gpt_neox": (
        "gpt_neox",
        {
            **_SIZES, "layer_norm_eps": 1e-3, "hidden_dropout": 0.0,
            "rope_parameters": {"rope_type": "default", "rope_theta": 2e4, "partial_rotary_factor": 0.5},
        },
        ("query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"),
    ),
    "olmo2": ("olmo2", _LLAMA, _QKV),
    "granite": ("granite", {**_LLAMA, "embedding_multiplier": 2.0, "logits_scaling": 3.0}, _QKV),
    "stablelm": (
        "stablelm",
        {
            **_SIZES, "layer_norm_eps": 1e-3,
            "rope_parameters": {"rope_type": "default", "rope_theta": 2e4, "partial_rotary_factor": 0.5},
        },
        _QKV,
    ),
    "opt": (
        "opt",
        {**_SIZES, "ffn_dim": 96, "word_embed_proj_dim": 64, "dropout": 0.0},
        ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"),
    ),
    "mixtral": (
        "mixtral",
        {**_LLAMA, "num_local_experts": 4, "sliding_window": None},
        ("q_proj", "k_proj", "v_proj", "o_proj"),
    ),
}  # fmt: skip
"""By name: transformers' model type, its settings, and the layers that an adapter changes."""


def make_kind(folder: Path, name: str, seed: int = 0) -> Path:
    """Write the model `name` with a tokenizer, as the current transformers saves it."""
    torch.manual_seed(seed)
    kind, settings, _ = KINDS[name]
    config = CONFIG_MAPPING[kind](**{"attn_pdrop": 0.0, **settings} if kind == "gpt2" else settings)
    model = AutoModelForCausalLM.from_config(config)
    for parameter_name, parameter in model.named_parameters():
        if parameter.ndim == 1:  # biases are zero and norms one at first: a mistake in them would not show
            torch.nn.init.normal_(parameter, 0.0 if parameter_name.endswith("bias") else 1.0, std=0.1)
    with quiet():
        model.save_pretrained(folder)
    make_tiny_tokenizer().save_pretrained(folder)
    return folder


def modules_of(name: str) -> tuple[str, ...]:
    """The layers of the model `name` that an adapter changes."""
    return KINDS[name][2]
