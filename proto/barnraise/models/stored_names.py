"""The names of a model's tensors in its files, which may differ from those of its parameters."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import safe_open

from barnraise.models.causal_lm import unreadable

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def weight_files(folder: Path) -> dict[str, Path]:
    """The file of each tensor of a model folder. Raises ModelUnavailable for a broken file."""
    found: dict[str, Path] = {}
    for file in sorted(folder.glob("model*.safetensors")):
        with unreadable(file), safe_open(file, framework="numpy") as tensors:
            found.update(dict.fromkeys(tensors.keys(), file))
    return found


@dataclass(frozen=True)
class StoredNames:
    """Finds tensors in a model's files.

    Some files, as GPT-2's on the Hub, were saved from the model without its head, and lack its prefix.
    transformers 5 fuses the experts of a mixture on loading, so that no file has their parameters.
    """

    names: frozenset[str]
    prefix: str
    """transformers' `base_model_prefix`."""

    @classmethod
    def of(cls, names: Iterable[str], model: PreTrainedModel) -> StoredNames:
        return cls(frozenset(names), model.base_model_prefix)

    def name_of(self, own: str) -> str | None:
        """The name in the files of the tensor that the model calls `own`; None where no file has it."""
        for name in (own, own.removeprefix(f"{self.prefix}."), f"{self.prefix}.{own}"):
            if name in self.names:
                return name
        return None
