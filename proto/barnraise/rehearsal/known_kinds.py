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


PACKED_SDPA = ("llama", "mistral")
PACKED_EAGER = ("gpt_oss",)
UNPACKED_EAGER = ("bloom",)


def by_kind(folder: Path) -> KnownKind:
    """The kind of the model in `folder`. An unknown one gets what is right for every kind."""
    kind = str(read_config(folder).get("model_type"))
    if kind in PACKED_SDPA:
        return KnownKind("sdpa", packed=True)
    return KnownKind("eager", packed=kind in PACKED_EAGER)
