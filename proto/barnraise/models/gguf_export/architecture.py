"""Models in GGUF: tensor names, settings, the order of rotary dimensions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt

from barnraise.core.errors import UserError
from barnraise.models.causal_lm import quiet, unreadable
from barnraise.models.model_config import load_config

Array = npt.NDArray[np.float32]

SUPPORTED = {
    "LlamaForCausalLM": gguf.MODEL_ARCH.LLAMA,
    "MistralForCausalLM": gguf.MODEL_ARCH.LLAMA,
    "Qwen2ForCausalLM": gguf.MODEL_ARCH.QWEN2,
    "Qwen3ForCausalLM": gguf.MODEL_ARCH.QWEN3,
    "GPT2LMHeadModel": gguf.MODEL_ARCH.GPT2,
}
_ROPES = ("default", "linear", "llama3")
_ACTIVATIONS = {gguf.MODEL_ARCH.GPT2: ("gelu_new", "gelu_pytorch_tanh")}
_GATES = ("silu", "swish")
"""Names of the activations that llama.cpp computes for these models."""


@dataclass(frozen=True)
class Architecture:
    """A model's configuration, as transformers reads it."""

    kind: gguf.MODEL_ARCH
    config: dict[str, Any]

    @classmethod
    def of(cls, folder: Path) -> Architecture:
        """Raises UserError for a model that GGUF cannot represent, ModelUnavailable."""
        with quiet(), unreadable(folder):
            found = load_config(folder)
        # GPT-2 has names of its own for what most models call alike.
        common = {name: getattr(found, name) for name in found.attribute_map}
        config: dict[str, Any] = found.to_dict() | common
        name = (config.get("architectures") or ["an unnamed architecture"])[0]
        if name not in SUPPORTED:
            raise _unsupported(f"a {name}", ", ".join(SUPPORTED))
        architecture = cls(SUPPORTED[name], config)
        architecture._check_activation()
        if architecture.kind == gguf.MODEL_ARCH.GPT2:
            architecture._check_attention_scale()
        else:
            architecture._check_rope()
        architecture._check_qwen()
        return architecture

    def _check_activation(self) -> None:
        known = _ACTIVATIONS.get(self.kind, _GATES)
        gate = self.config.get("hidden_act", self.config.get("activation_function"))
        if gate not in known:
            raise _unsupported(f"a model with the activation {gate!r}", ", ".join(known))

    def _check_attention_scale(self) -> None:
        if not self.config["scale_attn_weights"] or self.config["scale_attn_by_inverse_layer_idx"]:
            raise _unsupported("a GPT-2 with another scale of its attention", "that by the head's width")

    def _check_rope(self) -> None:
        rope = self.config["rope_parameters"]
        if (kind := rope.get("rope_type", "default")) not in _ROPES:
            raise _unsupported(f"a model with rotary embeddings of the kind {kind!r}", ", ".join(_ROPES))
        if (part := rope.get("partial_rotary_factor", 1.0)) != 1.0:
            raise _unsupported(f"a model that rotates {part} of each head", "whole heads")

    def _check_qwen(self) -> None:
        """Refuse what llama.cpp has for its `llama` kind, and not for its `qwen2` and `qwen3`."""
        config = self.config
        if self.kind == gguf.MODEL_ARCH.QWEN3 and config.get("attention_bias"):
            raise _unsupported("a Qwen 3 with attention_bias", "Qwen 3 without")
        unfilled = self.head_width * config["num_attention_heads"] != config["hidden_size"]
        if self.kind == gguf.MODEL_ARCH.QWEN2 and unfilled:
            raise _unsupported(f"a Qwen 2 with heads of {self.head_width}", "heads that fill its width")
        if self.kind != gguf.MODEL_ARCH.LLAMA and self.rope_factors() is not None:
            what = f"a {self.name} with rotary embeddings of the kind 'llama3'"
            raise _unsupported(what, "default, linear")

    @property
    def name(self) -> str:
        return gguf.MODEL_ARCH_NAMES[self.kind]

    @property
    def head_width(self) -> int:
        width = self.config.get("head_dim")
        return int(width or self.config["hidden_size"] // self.config["num_attention_heads"])

    def tensor_name(self, name: str) -> str:
        """The GGUF name of a tensor of transformers. Raises UserError for one that has none."""
        names = gguf.get_tensor_name_map(self.kind, self.config["num_hidden_layers"])
        found = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if found is None:
            raise UserError(
                f"the tensor {name} has no place in a GGUF file of the kind {self.name}",
                fix="Use the safetensors instead.",
            )
        return str(found)

    def ordered(self, name: str, values: Array) -> Array:
        """Values in llama.cpp's order: its rotary pairs are adjacent, those of transformers in two halves.

        values: (outputs, …) of a weight or bias; only those of queries and keys of its `llama` kind change.
        """
        heads = self._rotated_heads(name)
        if not heads:
            return values
        pairs = values.reshape(heads, 2, values.shape[0] // heads // 2, *values.shape[1:])
        return pairs.swapaxes(1, 2).reshape(values.shape)

    def _rotated_heads(self, name: str) -> int:
        if self.kind != gguf.MODEL_ARCH.LLAMA:
            return 0
        if ".q_proj." in name:
            return int(self.config["num_attention_heads"])
        return int(self.config["num_key_value_heads"]) if ".k_proj." in name else 0

    @property
    def context(self) -> int:
        """The longest text that llama.cpp computes as transformers does.

        llama.cpp has no sliding windows for these models: within one window there is no difference.
        """
        longest, window = int(self.config["max_position_embeddings"]), self.config.get("sliding_window")
        layers = self.config.get("layer_types") or ["sliding_attention"]
        return min(longest, int(window)) if window and "sliding_attention" in layers else longest

    def write_settings(self, writer: gguf.GGUFWriter) -> None:
        config = self.config
        writer.add_block_count(config["num_hidden_layers"])
        writer.add_context_length(self.context)
        writer.add_embedding_length(config["hidden_size"])
        writer.add_head_count(config["num_attention_heads"])
        writer.add_vocab_size(config["vocab_size"])
        if self.kind == gguf.MODEL_ARCH.GPT2:
            writer.add_feed_forward_length(config["n_inner"] or 4 * config["hidden_size"])
            writer.add_layer_norm_eps(config["layer_norm_epsilon"])
        else:
            self._write_llama_settings(writer)

    def _write_llama_settings(self, writer: gguf.GGUFWriter) -> None:
        config, rope = self.config, self.config["rope_parameters"]
        writer.add_feed_forward_length(config["intermediate_size"])
        writer.add_head_count_kv(config["num_key_value_heads"])
        writer.add_key_length(self.head_width)
        writer.add_value_length(self.head_width)
        writer.add_rope_dimension_count(self.head_width)
        writer.add_rope_freq_base(float(rope["rope_theta"]))
        writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
        if rope.get("rope_type") == "linear":
            writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
            writer.add_rope_scaling_factor(float(rope["factor"]))

    def rope_factors(self) -> Array | None:
        """Divisors of the rotary frequencies for Llama 3 scaling; None without it.

        As in transformers' `_compute_llama3_parameters`.
        """
        rope = self.config.get("rope_parameters") or {}
        if rope.get("rope_type") != "llama3":
            return None
        factor, low, high = (float(rope[key]) for key in ("factor", "low_freq_factor", "high_freq_factor"))
        context = float(rope["original_max_position_embeddings"])
        dimensions = np.arange(0, self.head_width, 2, dtype=np.float64) / self.head_width
        waves = 2 * math.pi * float(rope["rope_theta"]) ** dimensions
        smooth = (context / waves - low) / (high - low)
        between = 1 / ((1 - smooth) / factor + smooth)
        factors = np.where(waves < context / high, 1.0, np.where(waves > context / low, factor, between))
        return factors.astype(np.float32)


def _unsupported(what: str, known: str) -> UserError:
    return UserError(
        f"{what} cannot be written as GGUF here", fix=f"Supported: {known}. Use the safetensors instead."
    )
