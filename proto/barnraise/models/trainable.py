"""The trainable tensors of a base model: their names, shapes and initial values.

Names are those in the saved file: for LoRA the names in peft's adapter_model.safetensors, for full
training the model's own parameter names, tied ones once.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from barnraise.contract.spec import Full, Lora
from barnraise.contract.state import Array, Layout, TrainState
from barnraise.core.errors import SpecError
from barnraise.fold.adapter_init import initial_adapter
from barnraise.models.causal_lm import load, skeleton
from barnraise.models.lora_targets import check_targets, only_conv1d
from barnraise.models.stored_names import StoredNames
from barnraise.models.weight_files import tensor_files

if TYPE_CHECKING:
    from torch import nn


def layout(folder: Path, target: Lora | Full) -> Layout:
    """The trainable tensors of the model in `folder`, from its config alone: no weights are read.

    Raises ModelUnavailable, or SpecError where `target` does not fit the model or its files.
    """
    bare = skeleton(folder)
    names, prefix = [name for name, _ in bare.named_parameters()], bare.base_model_prefix
    model = attach(bare, target)
    _check_stored(folder, names, prefix, target)
    return Layout(tuple(sorted((name, tuple(p.shape)) for name, p in trainable_parameters(model).items())))


def initial_state(folder: Path, target: Lora | Full, seed: int) -> TrainState:
    """state[0]: the adapter drawn from `seed`, or the base's own weights as fp32 (exact from bf16).

    Raises ModelUnavailable, or SpecError where `target` does not fit the model.
    """
    if isinstance(target, Lora):
        return TrainState(initial_adapter(layout(folder, target), seed))
    import torch

    params = trainable_parameters(load(folder, torch.float32))
    arrays: dict[str, Array] = {name: params[name].detach().numpy() for name in sorted(params)}
    return TrainState(arrays)


def parameter_count(folder: Path) -> int:
    """Number of values in the base model, tied ones once. Raises ModelUnavailable."""
    return sum(parameter.numel() for parameter in skeleton(folder).parameters())


def adapter_config_for(folder: Path, target: Lora, base_name: str) -> dict[str, Any]:
    """The adapter_config.json with which peft loads the adapter onto `base_name`, the model in `folder`.

    Raises ModelUnavailable.
    """
    return adapter_config(target, base_name, only_conv1d(skeleton(folder), target.modules))


def adapter_config(target: Lora, base_name: str, fan_in_fan_out: bool) -> dict[str, Any]:
    """The same. fan_in_fan_out: whether all weights are stored as (inputs, outputs), as those of GPT-2.

    These are the keys of peft since 0.4, so that every later version reads them.
    """
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_name,
        "inference_mode": True,
        "r": target.rank,
        "lora_alpha": int(target.alpha) if target.alpha.is_integer() else target.alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": fan_in_fan_out,
        "init_lora_weights": True,
        "target_modules": sorted(target.modules),
    }


def attach(model: nn.Module, target: Lora | Full) -> nn.Module:
    """`model` with only the parameters of `target` trainable.

    Raises SpecError where a name in `target.modules` is not a linear layer with a weight of its own, or one
    that peft refuses.
    """
    if isinstance(target, Full):
        return model.requires_grad_(True)
    from peft import LoraConfig, get_peft_model

    check_targets(model, target.modules)
    settings = adapter_config(target, "", only_conv1d(model, target.modules)) | {"inference_mode": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        meta = any(parameter.is_meta for parameter in model.parameters())
        try:
            adapted: nn.Module = get_peft_model(model, LoraConfig(**settings), low_cpu_mem_usage=meta)
        except ValueError as error:  # peft refuses layers whose weights the model reads directly
            raise SpecError(
                f"train.target.modules: {str(error).splitlines()[0]}",
                fix="Leave these layers out of `modules`.",
            ) from error
    _refuse_experts(adapted, target)
    return adapted


def _refuse_experts(adapted: Any, target: Lora) -> None:
    """peft takes names such as `down_proj` for the fused experts of some kinds, instead of the layers."""
    chosen = adapted.peft_config["default"]
    if chosen.target_parameters:
        names = ", ".join(f"`{name}`" for name in sorted({*target.modules} - {*chosen.target_modules}))
        raise SpecError(
            f"train.target.modules: peft takes {names} for the fused experts of this kind of model"
            f" ({', '.join(sorted(chosen.target_parameters))}), which a run cannot adapt",
            fix=f"Leave {names} out of `modules`, and name layers of the attention.",
        )


def trainable_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters of an `attach`ed model that are trained, by their name in the saved file."""
    return {
        name.replace(".default.weight", ".weight"): parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }


def _check_stored(folder: Path, names: Collection[str], prefix: str, target: Lora | Full) -> None:
    """Refuse to train parameters that the model's files have under another name, or fused with others.

    names: those of the model's parameters. Absent weights are found when the model is loaded.
    """
    files = tensor_files(folder)
    stored = StoredNames(frozenset(files), prefix)
    renamed = {name for name in names if stored.name_of(name) is None}
    if len(files) <= len(names) - len(renamed):
        return
    if isinstance(target, Lora):
        renamed = {name for name in renamed if any(_chooses(wanted, name) for wanted in target.modules)}
    if renamed:
        raise SpecError(
            f"train.target: the model's files store {min(renamed)} under other names: transformers 5 fuses"
            " or renames it on loading, and older tools would not find what is trained of it",
            fix="Train a LoRA adapter on other layers, such as those of the attention.",
        )


def _chooses(wanted: str, parameter: str) -> bool:
    module = parameter.rpartition(".")[0]
    return module == wanted or module.endswith(f".{wanted}")
