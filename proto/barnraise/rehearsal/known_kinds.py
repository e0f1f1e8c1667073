"""How kinds of models attend, for machines that cannot find out. docs/MODELS.md has the whole table.

A rehearsal measures this; the table is what it measures for a small model of each kind
(tests/rehearsal/test_kinds.py compares them).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from barnraise.rehearsal.kinds import read_config
from barnraise.rehearsal.outcomes import Kernel


@dataclass(frozen=True)
class KnownKind:
    """What a run of a kind of model uses."""

    attention: Kernel
    packed: bool
    """Whether documents share samples."""


_PACKED_SDPA = frozenset(
    {
        "apertus", "arcee", "aria_text", "axk1", "axk2", "beam", "bitnet", "cohere", "cohere2", "cohere2_moe",
        "cohere_compass_text", "ctrl", "cwm", "dbrx", "deepseek_v2", "deepseek_v3", "deepseek_v32",
        "diffllama", "doge", "dots1", "ernie4_5", "ernie4_5_moe", "exaone4", "exaone_moe", "flex_olmo",
        "gemma", "gemma3_text", "gemma3n_text", "gemma4_text", "gemma4_unified_text", "glm", "glm4",
        "glm4_moe", "glm4_moe_lite", "glm_moe_dsa", "gpt2", "gpt_bigcode", "gpt_neox", "granite",
        "helium", "hrm_text", "hunyuan_v1_dense", "hunyuan_v1_moe", "hy_v3", "hyperclovax", "internlm3",
        "iquestcoder", "jais2", "jetmoe", "kolibri1", "laguna", "llama", "llama4_text", "mellum", "minicpm3",
        "minimax_m2", "minimax_m3_vl_text", "ministral", "ministral3", "mistral", "mixtral",
        "modernbert-decoder", "moshi", "nanochat", "nemotron", "olmo", "olmo2", "olmo3", "olmoe", "persimmon",
        "phi", "phi3", "phimoe", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "seed_oss", "smollm3",
        "solar_open", "stablelm", "starcoder2", "youtu",
    }
)  # fmt: skip
"""Documents share samples, with sdpa."""
_PACKED_EAGER = frozenset(
    {
        "codegen", "flint", "gemma2", "gpt_neo", "gpt_neox_japanese", "gptj", "granite_swa", "hy_v4",
        "mimo_v2_flash", "vaultgemma",
    }
)  # fmt: skip
"""Documents share samples, with eager attention: these kinds have no sdpa."""
_SINGLE_SDPA = frozenset(
    {
        "afmoe", "bailing_hybrid", "bamba", "biogpt", "falcon", "falcon_h1", "granitemoe", "granitemoehybrid",
        "granitemoeshared", "inkling_text", "jamba", "kimi_linear", "lfm2", "lfm2_moe", "lfm3", "minimax",
        "nemotron_h", "olmo_hybrid", "opt", "qwen3_5_moe_text", "qwen3_5_text", "qwen3_next",
        "qwen4_exp_text", "recurrent_gemma", "zamba", "zamba2", "zaya",
    }
)  # fmt: skip
"""Documents see each other, with sdpa."""


def by_kind(folder: Path) -> KnownKind:
    """The kind of the model in `folder`. An unknown one gets what is right for every kind."""
    return known_kind(str(read_config(folder).get("model_type")))


def known_kind(kind: str) -> KnownKind:
    """kind: `model_type` of a config."""
    sdpa = kind in _PACKED_SDPA | _SINGLE_SDPA
    return KnownKind("sdpa" if sdpa else "eager", packed=kind in _PACKED_SDPA | _PACKED_EAGER)
