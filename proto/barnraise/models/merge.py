"""An adapter merged into its base model, weight by weight: W + (alpha / r) · B·A (Hu et al. 2021, 4.1)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from safetensors import safe_open
from safetensors.torch import save_file

from barnraise.contract.spec import Lora
from barnraise.contract.state import Layout
from barnraise.core.errors import UserError
from barnraise.models.causal_lm import skeleton, unreadable
from barnraise.models.lora_files import LoraFiles
from barnraise.models.lora_targets import conv1d_weights
from barnraise.models.model_files import write_descriptions, write_model
from barnraise.models.stored_names import StoredNames
from barnraise.models.weight_files import tensor_files
from barnraise.runtime.files import disk_errors, put_in_place, scratch_folder

Dtype = Literal["fp32", "bf16", "fp16"]
_TORCH = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
_OTHER_BASE = "Give the base model that the adapter was trained on."


def merge(base: Path, adapter: Path, output: Path, dtype: Dtype = "bf16") -> None:
    """Write the adapter in `adapter`, merged into the model in `base`, as a model folder `output`.

    The tokenizer and the template are the adapter's. Needs the memory of one shard. Raises UserError where
    the adapter does not fit the base, ModelUnavailable, MalformedBlob, DiskFull; then there is no `output`.
    """
    weights = Weights.of(base, adapter)
    itemsize = 4 if dtype == "fp32" else 2
    sizes = {name: math.prod(weights.shape(name)) * itemsize for name in weights.names}

    def save(names: Sequence[str], path: Path) -> None:
        import torch

        kind = getattr(torch, _TORCH[dtype])
        merged = {name: weights.tensor(name).to(kind).contiguous() for name in names}
        save_file(merged, path, metadata={"format": "pt"})
        path.chmod(0o644)

    with scratch_folder(output.parent) as work, disk_errors(output):
        write_descriptions([adapter, base], work, dtype=_TORCH[dtype])
        write_model(work, sizes, save)
        put_in_place(work, output)


def check_mergeable(base: Path, target: Lora, tensors: Layout) -> None:
    """Raise UserError where no adapter with `tensors` could be merged into the model in `base`.

    Reads no weights.
    """
    import torch

    empty = {name: torch.empty(shape, device="meta") for name, shape in tensors}
    Weights.of(base, LoraFiles.of_tensors(empty, target.alpha, target.rank))


@dataclass(frozen=True)
class Weights:
    """The tensors of a model folder, read on demand, with an adapter added if there is one."""

    files: dict[str, Path]
    """File by tensor."""
    lora: LoraFiles | None
    """Its pairs are named as the tensors in `files`."""
    conv1d: frozenset[str]
    """Tensors that are stored as (inputs, outputs)."""
    parameters: dict[str, str]
    """The model's own name of each stored tensor that is a parameter; old files have buffers as well."""
    absent: tuple[str, ...] = ()
    """Parameters that no file has under their names."""

    @classmethod
    def of(cls, folder: Path, adapter: Path | LoraFiles | None = None) -> Weights:
        """adapter: a folder in peft's layout, or what it holds.

        Raises ModelUnavailable, UserError, MalformedBlob.
        """
        found = tensor_files(folder)
        with unreadable(folder):
            if not found:
                raise FileNotFoundError(f"no model*.safetensors in {folder}")
        model = skeleton(folder)
        stored = StoredNames.of(found, model)
        conv1d = frozenset(name for own in conv1d_weights(model) if (name := stored.name_of(own)))
        every = [name for name, _ in model.named_parameters()]
        parameters = {name: own for own in every if (name := stored.name_of(own))}
        absent = tuple(own for own in every if stored.name_of(own) is None)
        weights = cls(found, None, conv1d, parameters, absent)
        if adapter is None:
            return weights
        lora = adapter if isinstance(adapter, LoraFiles) else LoraFiles.of(adapter)
        return weights._with(lora, stored, model, folder)

    def _with(self, lora: LoraFiles, stored: StoredNames, model: Any, folder: Path) -> Weights:
        pairs = {_stored(own, stored, model, folder): pair for own, pair in lora.pairs.items()}
        weights = replace(self, lora=replace(lora, pairs=pairs))
        weights._check_shapes()
        return weights

    @property
    def names(self) -> list[str]:
        return sorted(self.files)

    def shape(self, name: str) -> tuple[int, ...]:
        with safe_open(self.files[name], framework="pt") as tensors:
            return tuple(tensors.get_slice(name).get_shape())

    def tensor(self, name: str) -> Any:
        """A torch tensor in fp32. Raises ModelUnavailable."""
        with unreadable(self.files[name]), safe_open(self.files[name], framework="pt") as tensors:
            weight = tensors.get_tensor(name).float()
        if self.lora is None or name not in self.lora.pairs:
            return weight
        a, b = self.lora.pairs[name]
        change = self.lora.scale * (b @ a)
        return weight + (change.T if name in self.conv1d else change)

    def _check_shapes(self) -> None:
        for name, (a, b) in () if self.lora is None else self.lora.pairs.items():
            there = self.shape(name)
            if (tuple(reversed(there)) if name in self.conv1d else there) != (b.shape[0], a.shape[1]):
                sizes = " x ".join(map(str, there))
                raise UserError(
                    f"the adapter's {name} is {b.shape[0]} x {a.shape[1]}, the base model's {sizes}",
                    fix=_OTHER_BASE,
                )


def _stored(own: str, stored: StoredNames, model: Any, folder: Path) -> str:
    """Raises UserError where the model in `folder` has no tensor of its own that the adapter can change."""
    if name := stored.name_of(own):
        return name
    if own not in {name for name, _ in model.named_parameters(remove_duplicate=False)}:
        why, fix = "which the model in {} does not have", _OTHER_BASE
    elif own not in dict(model.named_parameters()):
        why = "which the model in {} shares with another layer (tie_word_embeddings)"
        fix = "Load base model and adapter with peft, or train an adapter without this layer."
    else:
        why = "which the files in {} store under another name or fused with others"
        fix = "Load base model and adapter with peft, or save the base model with the current transformers."
    raise UserError(f"the adapter changes {own}, {why.format(folder)}", fix=fix)
