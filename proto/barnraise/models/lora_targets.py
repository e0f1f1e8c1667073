"""Which layers of a model a LoRA adapter can change, and the true cause where it cannot change one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from barnraise.core.errors import SpecError

if TYPE_CHECKING:
    from torch import nn

ALL_LINEAR = "all-linear"
"""A keyword of peft that stands for all linear layers but the head."""


def check_targets(model: nn.Module, names: Iterable[str]) -> None:
    """Raises SpecError unless each of `names` (`train.target.modules`) chooses linear layers alone.

    A name chooses the modules that have it as their whole name or as its last parts, as in peft. A linear
    layer whose weight another module shares (a head tied to the embedding) cannot be merged and is refused.
    """
    for wanted in tuple(names) or ("",):
        if problem := _problem(model, wanted):
            names_here = ", ".join(adaptable_names(model))
            raise SpecError(
                f"train.target.modules: {problem}",
                fix=f"Choose among this model's linear layers: {names_here}."
                if names_here
                else "This model has no linear layer: check its config.json.",
            )


def adaptable_names(model: nn.Module) -> list[str]:
    """The last names of the model's layers that an adapter can change."""
    shared = _shared_weights(model)
    return sorted(
        {
            name.rpartition(".")[2]
            for name, module in model.named_modules()
            if is_linear(module) and id(module.weight) not in shared
        }
    )


def is_linear(module: nn.Module) -> bool:
    """Whether peft gives the module a pair of matrices by its inputs and outputs."""
    from torch import nn

    return isinstance(module, nn.Linear) or is_conv1d(module)


def is_conv1d(module: nn.Module) -> bool:
    """Whether it is GPT-2's linear layer, whose weight is (inputs, outputs)."""
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, Conv1D)


def conv1d_weights(model: nn.Module) -> frozenset[str]:
    """The names of the weights that are stored as (inputs, outputs)."""
    return frozenset(f"{name}.weight" for name, module in model.named_modules() if is_conv1d(module))


def only_conv1d(model: nn.Module, names: Iterable[str]) -> bool:
    """Whether all modules that `names` choose are Conv1D: peft's `fan_in_fan_out`."""
    chosen = [module for wanted in names for module in _chosen(model, wanted).values()]
    return bool(chosen) and all(is_conv1d(module) for module in chosen)


def _problem(model: nn.Module, wanted: str) -> str | None:
    """The first fault of one name, or None."""
    if wanted == ALL_LINEAR:
        return f"`{ALL_LINEAR}` is a keyword of peft, and a run names its layers, so that all peers agree"
    if not wanted:
        return "no layer is named"
    chosen = _chosen(model, wanted)
    if not chosen:
        return _no_module(model, wanted)
    shared = _shared_weights(model)
    for name, module in chosen.items():
        if not is_linear(module):
            return _not_linear(name, module, wanted)
        if id(module.weight) in shared:
            return (
                f"`{wanted}` shares its weight with the input embedding (tie_word_embeddings), so that an"
                " adapter on it cannot be merged into a model that still ties them"
            )
    return None


def _no_module(model: nn.Module, wanted: str) -> str:
    for name, parameter in model.named_parameters():
        if name == wanted or name.endswith(f".{wanted}"):
            shape = " x ".join(map(str, parameter.shape))
            experts = " fused weight of a mixture of experts" if parameter.ndim == 3 else " parameter"
            return f"`{wanted}` is a{experts} ({name}, {shape}) and no linear layer"
    return f"this model has no layer called `{wanted}`"


def _not_linear(name: str, module: nn.Module, wanted: str) -> str:
    from torch import nn

    kind = type(module).__name__
    if isinstance(module, nn.Embedding):
        return f"`{wanted}` is an embedding ({name}), and adapters of embeddings are not supported"
    if any(parameter.ndim == 3 for parameter in module.parameters(recurse=False)):
        return f"`{wanted}` has fused weights of a mixture of experts ({name}, a {kind}), no linear layers"
    if any(True for _ in module.children()):
        return f"`{wanted}` is a group of layers ({name}, a {kind}), not a linear layer"
    return f"`{wanted}` is no linear layer but a {kind} ({name})"


def _chosen(model: nn.Module, wanted: str) -> dict[str, nn.Module]:
    return {
        name: module
        for name, module in model.named_modules()
        if name == wanted or (wanted and name.endswith(f".{wanted}"))
    }


def _shared_weights(model: nn.Module) -> set[int]:
    """Ids of the parameters that several modules have."""
    owners = Counter(id(p) for module in model.modules() for p in module.parameters(recurse=False))
    return {parameter for parameter, count in owners.items() if count > 1}
