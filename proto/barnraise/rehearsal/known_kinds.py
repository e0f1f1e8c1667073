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
        "apertus", "arcee", "bitnet", "cohere", "cohere2", "cwm", "dbrx", "deepseek_v2", "deepseek_v3",
        "diffllama", "doge", "ernie4_5", "exaone4", "exaone_moe", "flex_olmo", "gemma", "gemma3_text",
        "glm", "glm4", "glm4_moe", "gpt2", "gpt_bigcode", "gpt_neox", "granite", "helium",
        "hunyuan_v1_dense", "hunyuan_v1_moe", "jetmoe", "llama", "llama4_text", "ministral3", "mistral",
        "mixtral", "nanochat", "nemotron", "olmo", "olmo2", "olmo3", "olmoe", "persimmon", "phi", "phi3",
        "phimoe", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "seed_oss", "smollm3", "stablelm",
        "starcoder2",
    }
)  # fmt: skip
"""Documents share samples, with sdpa."""
_PACKED_EAGER = frozenset(
    {
        "codegen", "gemma2", "gpt_neo", "gptj", "vaultgemma",
    }
)  # fmt: skip
"""Documents share samples, with eager attention: these kinds have no sdpa."""
_SINGLE_SDPA = frozenset(
    {
        "bamba", "biogpt", "falcon", "falcon_h1", "granitemoe", "granitemoehybrid", "granitemoeshared",
        "jamba", "lfm2", "lfm2_moe", "minimax", "nemotron_h", "opt", "qwen3_5_text", "qwen3_next",
        "recurrent_gemma", "zamba2",
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
