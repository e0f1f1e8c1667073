"""The trainable tensors of a base model: their names, shapes and initial values.

Names are those in the saved file: for LoRA the names in peft's adapter_model.safetensors, for full
training the model's own parameter names, tied ones once.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from barnraise.contract.spec import Full, Lora
from barnraise.contract.state import Array, Layout, TrainState
from barnraise.core.errors import SpecError
from barnraise.fold.adapter_init import initial_adapter
from barnraise.models.causal_lm import load, skeleton

if TYPE_CHECKING:
    from torch import nn


def layout(folder: Path, target: Lora | Full) -> Layout:
    """The trainable tensors of the model in `folder`, from its config alone: no weights are read.

    Raises ModelUnavailable, or SpecError where `target` does not fit the model.
    """
    model = attach(skeleton(folder), target)
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


def adapter_config(target: Lora, base_name: str) -> dict[str, Any]:
    """The adapter_config.json with which peft loads the adapter onto `base_name`."""
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_name,
        "inference_mode": True,
        "r": target.rank,
        "lora_alpha": int(target.alpha) if target.alpha.is_integer() else target.alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "target_modules": sorted(target.modules),
    }


def attach(model: nn.Module, target: Lora | Full) -> nn.Module:
    """`model` with only the parameters of `target` trainable.

    Raises SpecError where a name in `target.modules` is not a linear layer.
    """
    if isinstance(target, Full):
        return model.requires_grad_(True)
    from peft import LoraConfig, get_peft_model

    _check_modules(model, target)
    settings = adapter_config(target, "") | {"inference_mode": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        meta = any(parameter.is_meta for parameter in model.parameters())
        adapted: nn.Module = get_peft_model(model, LoraConfig(**settings), low_cpu_mem_usage=meta)
    return adapted


def trainable_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters of an `attach`ed model that are trained, by their name in the saved file."""
    return {
        name.replace(".default.weight", ".weight"): parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }


def _check_modules(model: nn.Module, target: Lora) -> None:
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    linear = {name for name, module in model.named_modules() if isinstance(module, nn.Linear | Conv1D)}
    every = {name for name, _ in model.named_modules()}
    known = sorted({name.rpartition(".")[2] for name in linear})
    for wanted in target.modules or ("",):
        chosen = {name for name in every if name == wanted or name.endswith(f".{wanted}")}
        if not wanted or not chosen or not chosen <= linear:
            raise SpecError(
                f"train.target.modules: this model has no linear layer called `{wanted}`",
                fix=f"Choose among its linear layers: {', '.join(known)}.",
            )
