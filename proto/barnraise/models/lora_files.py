"""A LoRA adapter in peft's layout: its settings, and two small matrices for each weight."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open

from barnraise.core.errors import MalformedBlob, UserError
from barnraise.models.model_config import read_object

ADAPTER = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
_PREFIX = "base_model.model."
MAX_TARGETS = 10_000
"""Names of layers in an adapter's settings."""


class _Settings(BaseModel):
    """The peft settings that determine what an adapter adds; other values are not supported."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    peft_type: Literal["LORA"]
    r: Annotated[int, Field(ge=1)]
    lora_alpha: float
    use_rslora: Literal[False] = False
    use_dora: Literal[False] = False
    bias: Literal["none"] = "none"
    rank_pattern: Annotated[dict[str, int], Field(max_length=0)] = {}
    alpha_pattern: Annotated[dict[str, float], Field(max_length=0)] = {}
    target_modules: Annotated[tuple[str, ...], Field(max_length=MAX_TARGETS)] | str | None = None
    fan_in_fan_out: bool = False


@dataclass(frozen=True)
class LoraFiles:
    """The weights of an adapter, which adds scale · B·A to each weight."""

    alpha: float
    rank: int
    pairs: dict[str, tuple[Any, Any]]
    """A (rank, inputs) and B (outputs, rank), fp32 torch tensors, by the name of the weight."""

    @property
    def scale(self) -> float:
        return self.alpha / self.rank

    @classmethod
    def of(cls, folder: Path) -> LoraFiles:
        """Raises UserError where there is no plain LoRA adapter, MalformedBlob for a broken one."""
        return cls._read(folder)[1]

    @classmethod
    def _read(cls, folder: Path) -> tuple[_Settings, LoraFiles]:
        try:
            settings = _Settings.model_validate(read_object(folder / ADAPTER_CONFIG))
            with safe_open(folder / ADAPTER, framework="pt") as tensors:
                found = {name: tensors.get_tensor(name).float() for name in tensors.keys()}  # noqa: SIM118
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]
            raise UserError(
                f"{folder / ADAPTER_CONFIG} is not of a plain LoRA adapter:"
                f" {'.'.join(map(str, fault['loc']))}: {fault['msg']}",
                fix="Load it with peft, and save the merged model from there.",
            ) from None
        except (OSError, ValueError, SafetensorError) as error:
            raise UserError(
                f"{folder} contains no LoRA adapter: {error}",
                fix=f"Give a folder with {ADAPTER_CONFIG} and {ADAPTER}.",
            ) from None
        return settings, cls.of_tensors(found, settings.lora_alpha, settings.r)

    @classmethod
    def attach(cls, model: Any, folder: Path) -> Any:
        """`model` with the adapter in `folder`, in peft's wrapper.

        peft's own loader takes all of an adapter's settings, and some of them name modules to import, other
        repositories, or regular expressions. Here it gets those that a plain adapter has. Raises what `of`
        raises, or UserError where the adapter does not fit the model.
        """
        from peft import LoraConfig, get_peft_model, set_peft_model_state_dict
        from safetensors.torch import load_file

        settings, files = cls._read(folder)
        held = {name.removesuffix(".weight") for name in files.pairs}
        named = settings.target_modules
        chosen = _chosen(model, named) if isinstance(named, tuple) else held
        if differ := sorted(chosen ^ held):
            raise _does_not_fit(folder, f"{differ[0]} is in its file or in its settings alone")
        if not held:
            raise _does_not_fit(folder, "it has no matrices")
        config = LoraConfig(
            r=settings.r,
            lora_alpha=settings.lora_alpha,
            target_modules=sorted(held),  # those in the file: the settings could name any number of layers
            fan_in_fan_out=settings.fan_in_fan_out,
            task_type="CAUSAL_LM",
        )
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                adapted: Any = get_peft_model(model, config)
                report = set_peft_model_state_dict(adapted, load_file(folder / ADAPTER))
        except (ValueError, RuntimeError) as error:
            raise _does_not_fit(folder, str(error).partition("\n")[0]) from None
        absent = [name for name in report.missing_keys if ".lora_" in name]
        if absent or report.unexpected_keys:
            raise _does_not_fit(folder, f"{[*absent, *report.unexpected_keys][0]} has no counterpart")
        for parameter in adapted.parameters():
            parameter.requires_grad_(False)
        return adapted

    @classmethod
    def of_tensors(cls, found: Mapping[str, Any], alpha: float, rank: int) -> LoraFiles:
        """found: torch tensors by their names in a file. Raises MalformedBlob."""
        halves: dict[str, dict[str, Any]] = {}
        for name, tensor in found.items():
            module, _, half = name.removeprefix(_PREFIX).removesuffix(".weight").rpartition(".lora_")
            halves.setdefault(f"{module}.weight", {})[half] = tensor
        for name, both in halves.items():
            _check_pair(name, both, rank)
        return cls(alpha, rank, {name: (both["A"], both["B"]) for name, both in halves.items()})


def _chosen(model: Any, names: tuple[str, ...]) -> set[str]:
    """The layers that an adapter's settings choose by name."""
    ends = frozenset(names)
    return {name for name, _ in model.named_modules() if not ends.isdisjoint(_ends(name))}


def _ends(name: str) -> Iterator[str]:
    """A module's name and its last parts, by which peft's settings may choose it."""
    parts = name.split(".")
    return (".".join(parts[first:]) for first in range(len(parts)))


def _does_not_fit(folder: Path, why: str) -> UserError:
    return UserError(
        f"the adapter in {folder} does not fit its base model: {why}",
        fix="Give the base model that the adapter was trained on.",
    )


def _check_pair(name: str, both: dict[str, Any], rank: int) -> None:
    if both.keys() != {"A", "B"}:
        problem = f"the adapter has {', '.join(sorted(both))} of {name} where A and B were expected"
    elif both["A"].shape[:1] != (rank,) or both["B"].shape[1:] != (rank,) or both["A"].ndim != 2:
        shapes = " and ".join(str(tuple(both[half].shape)) for half in "AB")
        problem = f"the adapter's {name} has the shapes {shapes} where its rank is {rank}"
    else:
        return
    raise MalformedBlob(problem, fix="Remove it and download it again.")
