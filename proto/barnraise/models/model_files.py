"""A folder as transformers loads it: safetensors, one file or shards with an index, config, tokenizer."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from barnraise.models.causal_lm import unreadable
from barnraise.models.compatible_files import (
    compatible_config,
    compatible_tokenizer_config,
    special_tokens_map,
)
from barnraise.models.model_config import MAX_JSON_BYTES, read_object, reduced
from barnraise.runtime.files import write_atomic

SHARD_BYTES = 500 * 10**6
"""Largest safetensors file of a model: small enough that a broken download costs little."""
INDEX = "model.safetensors.index.json"

CONFIG = "config.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
SPECIAL_TOKENS = "special_tokens_map.json"
FROM_BASE = (
    CONFIG,
    "generation_config.json",
    "tokenizer.json",
    TOKENIZER_CONFIG,
    "tokenizer.model",
    SPECIAL_TOKENS,
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
)
"""Files that a fine-tuned model takes from its base, in addition to the weights."""
TEMPLATE = "chat_template.jinja"


def write_descriptions(
    sources: Sequence[Path], folder: Path, *, with_config: bool = True, dtype: str | None = None
) -> None:
    """Write config, tokenizer and chat template into `folder`, so that transformers 4 and 5 read them alike.

    sources: folders, of which the first that has a file provides it. with_config: whether config.json is
    among the files. dtype: transformers' name of the weights' dtype, if not the config's.
    Raises ModelUnavailable for a broken JSON file, OSError.
    """
    found = {
        name: path
        for name in (*FROM_BASE, TEMPLATE)
        if (path := next((source / name for source in sources if (source / name).is_file()), None))
    }
    for name, path in found.items():
        if name not in (CONFIG, TOKENIZER_CONFIG):
            shutil.copyfile(path, folder / name)
    if with_config and CONFIG in found:
        table = _read(found[CONFIG])
        dtypes = {"dtype": dtype, "torch_dtype": dtype} if dtype else {}
        config = compatible_config(reduced(table) | dtypes)  # who downloads it runs no code that it names
        if config == table:
            shutil.copyfile(found[CONFIG], folder / CONFIG)
        else:
            _write(folder / CONFIG, config)
    if TOKENIZER_CONFIG in found:
        template = found[TEMPLATE].read_text(encoding="utf-8") if TEMPLATE in found else None
        table = compatible_tokenizer_config(reduced(_read(found[TOKENIZER_CONFIG])), template or None)
        _write(folder / TOKENIZER_CONFIG, table)
        if SPECIAL_TOKENS not in found:
            _write(folder / SPECIAL_TOKENS, special_tokens_map(table))


def _read(path: Path) -> dict[str, Any]:
    with unreadable(path):
        return read_object(path, 4 * MAX_JSON_BYTES)


def _write(path: Path, table: dict[str, Any]) -> None:
    write_atomic(path, json.dumps(table, indent=2, ensure_ascii=False).encode())


def write_model(
    folder: Path,
    sizes: Mapping[str, int],
    save: Callable[[Sequence[str], Path], None],
    limit: int = SHARD_BYTES,
) -> None:
    """Write tensors of `sizes` bytes into `folder`. save: writes the named tensors to the path."""
    shards = list(_shards(sizes, limit))
    if len(shards) == 1:
        save(shards[0], folder / "model.safetensors")
        return
    weight_map: dict[str, str] = {}
    for number, names in enumerate(shards, start=1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        save(names, folder / file)
        weight_map.update(dict.fromkeys(names, file))
    index = {"metadata": {"total_size": sum(sizes.values())}, "weight_map": weight_map}
    write_atomic(folder / INDEX, json.dumps(index, indent=2).encode())


def _shards(sizes: Mapping[str, int], limit: int) -> Iterator[list[str]]:
    shard: list[str] = []
    for name in sorted(sizes):
        if shard and sum(sizes[other] for other in shard) + sizes[name] > limit:
            yield shard
            shard = []
        shard.append(name)
    yield shard
