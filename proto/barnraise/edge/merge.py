"""An adapter merged into its base, weight by weight: W + (alpha / r) · B·A (Hu et al. 2021, section 4.1)."""

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

from barnraise.edge.causal_lm import unreadable
from barnraise.edge.files import disk_errors, scratch_folder, write_atomic
from barnraise.edge.model_files import FROM_BASE, write_model
from barnraise.errors import MalformedBlob, UserError

Dtype = Literal["fp32", "bf16", "fp16"]
_TORCH = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
_PREFIX = "base_model.model."
ADAPTER = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
TEMPLATE = "chat_template.jinja"


def merge(base: Path, adapter: Path, output: Path, dtype: Dtype = "bf16") -> None:
    """Write the adapter in `adapter`, merged into the model in `base`, as a model folder `output`.

    The tokenizer and the template are the adapter's. Takes the memory of one shard. Raises UserError where
    the adapter does not fit the base, ModelUnavailable, MalformedBlob, DiskFull; then there is no `output`.
    """
    weights = Weights.of(base)
    lora = _Lora.of(adapter)
    lora.refuse_strangers(weights.names, base)
    itemsize = 4 if dtype == "fp32" else 2
    sizes = {name: math.prod(weights.shape(name)) * itemsize for name in weights.names}

    def save(names: Sequence[str], path: Path) -> None:
        import torch

        kind = getattr(torch, _TORCH[dtype])
        merged = {name: lora.added_to(weights.tensor(name), name).to(kind).contiguous() for name in names}
        save_file(merged, path, metadata={"format": "pt"})
        path.chmod(0o644)

    with scratch_folder(output.parent) as work, disk_errors(output):
        for name in FROM_BASE:
            source = next((place / name for place in (adapter, base) if (place / name).is_file()), None)
            if source is not None:
                shutil.copyfile(source, work / name)
        for place in (base, adapter):
            if (place / TEMPLATE).is_file():
                shutil.copyfile(place / TEMPLATE, work / TEMPLATE)
        config = json.loads((base / "config.json").read_text(encoding="utf-8")) | {"dtype": _TORCH[dtype]}
        write_atomic(work / "config.json", json.dumps(config, indent=2).encode())
        write_model(work, sizes, save)
        work.replace(output)


@dataclass(frozen=True)
class Weights:
    """The tensors of a model folder, each read when it is asked for."""

    files: dict[str, Path]
    """File by tensor."""

    @classmethod
    def of(cls, folder: Path) -> Weights:
        """Raises ModelUnavailable."""
        found: dict[str, Path] = {}
        for file in sorted(folder.glob("model*.safetensors")):
            with unreadable(file), safe_open(file, framework="pt") as tensors:
                found.update(dict.fromkeys(tensors.keys(), file))
        with unreadable(folder):
            if not found:
                raise FileNotFoundError(f"no model*.safetensors in {folder}")
        return cls(found)

    @property
    def names(self) -> list[str]:
        return sorted(self.files)

    def shape(self, name: str) -> tuple[int, ...]:
        with safe_open(self.files[name], framework="pt") as tensors:
            return tuple(tensors.get_slice(name).get_shape())

    def tensor(self, name: str) -> Any:
        """A torch tensor in fp32."""
        with unreadable(self.files[name]), safe_open(self.files[name], framework="pt") as tensors:
            return tensors.get_tensor(name).float()


@dataclass(frozen=True)
class _Lora:
    scale: float
    pairs: dict[str, tuple[Any, Any]]
    """A (r, inputs) and B (outputs, r) by the name of the weight that they add to."""

    @classmethod
    def of(cls, folder: Path) -> _Lora:
        config, pairs = read_adapter(folder)
        return cls(config["lora_alpha"] / config["r"], pairs)

    def refuse_strangers(self, names: Sequence[str], base: Path) -> None:
        if strange := sorted(self.pairs.keys() - set(names)):
            raise UserError(
                f"the adapter changes {strange[0]}, which the model in {base} does not have",
                fix="Give the base model that the adapter was trained on.",
            )

    def added_to(self, weight: Any, name: str) -> Any:
        if name not in self.pairs:
            return weight
        a, b = self.pairs[name]
        if (b.shape[0], a.shape[1]) != tuple(weight.shape):
            raise UserError(
                f"the adapter's {name} is {b.shape[0]} x {a.shape[1]}, the base's {tuple(weight.shape)}",
                fix="Give the base model that the adapter was trained on.",
            )
        return weight + self.scale * (b @ a)


def read_adapter(folder: Path) -> tuple[dict[str, Any], dict[str, tuple[Any, Any]]]:
    """The adapter's configuration, and A and B in fp32 by the name of the weight that they add to.

    Raises UserError where there is no LoRA adapter, MalformedBlob where it lacks a half.
    """
    try:
        config = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
        with safe_open(folder / ADAPTER, framework="pt") as tensors:
            found = {name: tensors.get_tensor(name).float() for name in tensors.keys()}  # noqa: SIM118
    except (OSError, ValueError) as error:
        raise UserError(
            f"{folder} holds no LoRA adapter: {error}",
            fix=f"Give a folder with {ADAPTER_CONFIG} and {ADAPTER}.",
        ) from None
    halves: dict[str, dict[str, Any]] = {}
    for name, tensor in found.items():
        module, _, half = name.removeprefix(_PREFIX).removesuffix(".weight").rpartition(".lora_")
        halves.setdefault(f"{module}.weight", {})[half] = tensor
    for name, both in halves.items():
        if both.keys() != {"A", "B"}:
            raise MalformedBlob(
                f"the adapter has {', '.join(sorted(both))} of {name} where A and B were expected",
                fix="Remove it and download it again.",
            )
    return config, {name: (both["A"], both["B"]) for name, both in halves.items()}
