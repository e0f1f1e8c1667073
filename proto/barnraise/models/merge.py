"""An adapter merged into its base model, weight by weight: W + (alpha / r) · B·A (Hu et al. 2021, 4.1)."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from safetensors import safe_open
from safetensors.torch import save_file

from barnraise.core.errors import UserError
from barnraise.models.causal_lm import unreadable
from barnraise.models.lora_files import LoraFiles
from barnraise.models.model_files import FROM_BASE, write_model
from barnraise.runtime.files import disk_errors, scratch_folder, write_atomic

Dtype = Literal["fp32", "bf16", "fp16"]
_TORCH = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
TEMPLATE = "chat_template.jinja"


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
        for name in (*FROM_BASE, TEMPLATE):
            source = next((place / name for place in (adapter, base) if (place / name).is_file()), None)
            if source is not None:
                shutil.copyfile(source, work / name)
        config = json.loads((base / "config.json").read_text(encoding="utf-8")) | {"dtype": _TORCH[dtype]}
        write_atomic(work / "config.json", json.dumps(config, indent=2).encode())
        write_model(work, sizes, save)
        work.replace(output)


@dataclass(frozen=True)
class Weights:
    """The tensors of a model folder, read on demand, with an adapter added if there is one."""

    files: dict[str, Path]
    """File by tensor."""
    lora: LoraFiles | None

    @classmethod
    def of(cls, folder: Path, adapter: Path | None = None) -> Weights:
        """adapter: a folder in peft's layout. Raises ModelUnavailable, UserError, MalformedBlob."""
        found: dict[str, Path] = {}
        for file in sorted(folder.glob("model*.safetensors")):
            with unreadable(file), safe_open(file, framework="pt") as tensors:
                found.update(dict.fromkeys(tensors.keys(), file))
        with unreadable(folder):
            if not found:
                raise FileNotFoundError(f"no model*.safetensors in {folder}")
        weights = cls(found, LoraFiles.of(adapter) if adapter is not None else None)
        weights._check_adapter(folder)
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
        return weight + self.lora.scale * (b @ a)

    def _check_adapter(self, folder: Path) -> None:
        for name, (a, b) in () if self.lora is None else self.lora.pairs.items():
            if name not in self.files:
                problem = f"the adapter changes {name}, which the model in {folder} does not have"
            elif (there := self.shape(name)) != (b.shape[0], a.shape[1]):
                sizes = " x ".join(map(str, there))
                problem = f"the adapter's {name} is {b.shape[0]} x {a.shape[1]}, the base model's {sizes}"
            else:
                continue
            raise UserError(problem, fix="Give the base model that the adapter was trained on.")
