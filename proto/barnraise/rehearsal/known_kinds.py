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
        "apertus", "arcee", "cohere", "cohere2", "ernie4_5", "exaone4", "gemma", "gemma3_text",
        "glm", "glm4", "gpt2", "gpt_bigcode", "gpt_neox", "granite", "helium", "hunyuan_v1_dense",
        "llama", "ministral3", "mistral", "mixtral", "nemotron", "olmo", "olmo2", "olmo3", "olmoe",
        "persimmon", "phi", "phi3", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "seed_oss",
        "smollm3", "stablelm", "starcoder2",
    }
)  # fmt: skip
"""Documents share samples, with sdpa."""
_PACKED_EAGER = frozenset(
    {
        "codegen", "gemma2", "gpt_neo", "gptj",
    }
)  # fmt: skip
"""Documents share samples, with eager attention: these kinds have no sdpa."""
_SINGLE_SDPA = frozenset(
    {
        "biogpt", "falcon", "granitemoe", "jamba", "opt", "qwen3_next", "recurrent_gemma",
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
