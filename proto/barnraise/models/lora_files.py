"""A LoRA adapter in peft's layout: its settings, and two small matrices for each weight."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open

from barnraise.core.errors import MalformedBlob, UserError

ADAPTER = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
_PREFIX = "base_model.model."


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
        try:
            table = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
            settings = _Settings.model_validate(table)
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
        return cls.of_tensors(found, settings.lora_alpha, settings.r)

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


def _check_pair(name: str, both: dict[str, Any], rank: int) -> None:
    if both.keys() != {"A", "B"}:
        problem = f"the adapter has {', '.join(sorted(both))} of {name} where A and B were expected"
    elif both["A"].shape[:1] != (rank,) or both["B"].shape[1:] != (rank,) or both["A"].ndim != 2:
        shapes = " and ".join(str(tuple(both[half].shape)) for half in "AB")
        problem = f"the adapter's {name} has the shapes {shapes} where its rank is {rank}"
    else:
        return
    raise MalformedBlob(problem, fix="Remove it and download it again.")
