"""A model's config.json, reduced to what describes the model, and bounded before anything is made from it.

A config comes from the base model's author. transformers takes more from it than sizes: names of kernels
that it fetches from the Hub and runs, of code, of quantizers, of other files; and it makes a list entry or a
module for each layer that the config claims.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

CONFIG = "config.json"
MAX_JSON_BYTES = 4 * 2**20
"""Of a config or another small JSON file of a model; the largest known have 100 kB."""
MAX_VALUES = 100_000
"""Values in a config, nested ones included."""
MAX_COUNT = 4096
"""Layers, heads and the like. The largest models have 126 layers."""
MAX_EXPERTS = 2**15
"""In a layer. The largest kinds have 16,384."""
MAX_SIZE = 2**31
"""Any other whole number: the vocabulary, a width, a context."""

_DROPPED = re.compile(
    r"_?(attn|experts?)_implementation.*|.*kernel_config|use_kernels?|auto_map|trust_remote_code"
    r"|(quantization|compression)_config|custom_\w+|code_revision|configuration_files|_name_or_path"
    r"|_commit_hash|(base_model_)?\w+_plan|(use_\w+_)?backbone(_config|_kwargs)?|distributed_config"
)
"""Keys that choose code or kernels, or name other files and repositories. Each machine chooses its own."""
_COUNTS = re.compile(r"(^|_)(layers?|blocks?|heads?|depth|stages?|groups?|block_count)(_|$)")
"""In the names of numbers for each of which something is made."""
_EXPERTS = re.compile(r"(^|_)experts?(_|$)")
_NO_COUNTS = re.compile(r"(size|dim|ids?|window|length|tokens?)$|vocab")


def load_config(folder: Path) -> PreTrainedConfig:
    """The config of the model in `folder`, as transformers reads what `reduced` leaves of it.

    Raises ValueError where it is too large, OSError, and what transformers raises for a wrong value.
    """
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    table = reduced(read_object(folder / CONFIG))
    check_sizes(table)
    kind = table.pop("model_type", None)
    if not isinstance(kind, str):
        raise ValueError("config.json names no model kind (`model_type`)")
    if kind == "mistral" and "layer_types" in table:
        kind = "ministral"  # as AutoConfig does
    if kind not in CONFIG_MAPPING:
        raise ValueError(f"transformers knows no model kind {kind!r}")
    config: PreTrainedConfig = CONFIG_MAPPING[kind].from_dict(table)
    return config


def read_object(path: Path, limit: int = MAX_JSON_BYTES) -> dict[str, Any]:
    """A JSON object in a file. Raises OSError; ValueError for a longer file or anything else."""
    with path.open("rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise ValueError(f"{path.name} is longer than {limit:,} bytes")
    try:
        table = json.loads(data.decode("utf-8"))
    except RecursionError:
        raise ValueError(f"{path.name} is nested too deeply") from None
    if not isinstance(table, dict):
        raise ValueError(f"{path.name} is not a JSON object")
    return table


def reduced(table: Mapping[str, Any]) -> dict[str, Any]:
    """A config without the keys that choose code, kernels, quantizers or other files, at any depth."""
    return {key: _inner(value) for key, value in table.items() if not _DROPPED.fullmatch(key)}


def _inner(value: Any) -> Any:
    if isinstance(value, dict):
        return reduced(value)
    return [_inner(each) for each in value] if isinstance(value, list) else value


def check_sizes(table: Mapping[str, Any]) -> None:
    """Raise ValueError for a number from which transformers would make more than a machine can hold."""
    for number, (key, value) in enumerate(_values(table)):
        if number >= MAX_VALUES:
            raise ValueError(f"config.json has more than {MAX_VALUES:,} values")
        if isinstance(value, int) and abs(value) > limit_of(key):
            raise ValueError(f"config.json says {key} {value:,}; the most is {limit_of(key):,}")


def limit_of(key: str) -> int:
    """The largest number that a key of a config may have."""
    if _NO_COUNTS.search(key):
        return MAX_SIZE
    return MAX_COUNT if _COUNTS.search(key) else MAX_EXPERTS if _EXPERTS.search(key) else MAX_SIZE


def _values(table: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Each value that is no table or list, with the key that it is under."""
    left: list[tuple[str, Any]] = list(table.items())
    while left:
        key, value = left.pop()
        if isinstance(value, dict):
            left += value.items()
        elif isinstance(value, list):
            left += [(key, each) for each in value]
        yield key, value
