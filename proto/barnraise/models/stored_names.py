"""The names of a model's tensors in its files, which may differ from those of its parameters."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedModel


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
