"""A model's weights as the safetensors files that transformers loads: one, or shards with an index."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from barnraise.runtime.files import write_atomic

SHARD_BYTES = 500 * 10**6
"""Largest safetensors file of a model: small enough that a broken download costs little."""
INDEX = "model.safetensors.index.json"

FROM_BASE = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
)
"""Files that a fine-tuned model copies from its base, in addition to the weights."""


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
