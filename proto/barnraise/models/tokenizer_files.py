"""A model's tokenizer, from files that are bounded before a library reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from barnraise.models.model_config import CONFIG, MAX_JSON_BYTES, load_config, read_object

MAX_TOKENIZER_BYTES = 2**27
"""Of tokenizer.json and other lists of tokens: the largest have 35 MB."""
MAX_ADDED_TOKENS = 2**18
"""Tokens beyond the vocabulary's; the largest known have 7,000."""
_LISTS = ("tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt", "vocab.txt")
_OBJECTS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer in `folder`, without code of its own.

    Raises ValueError for files that are larger than a tokenizer's, OSError, and what transformers raises.
    """
    from transformers import AutoTokenizer

    check_tokenizer(folder)
    # transformers reads the config where no class is named, and would make what that claims
    config = {"config": load_config(folder)} if (folder / CONFIG).is_file() else {}
    return AutoTokenizer.from_pretrained(
        str(folder), local_files_only=True, trust_remote_code=False, **config
    )


def check_tokenizer(folder: Path) -> None:
    """Raise ValueError for files that are larger than a tokenizer's, or hold more added tokens."""
    for name in _LISTS:
        path = folder / name
        if path.is_file() and path.stat().st_size > MAX_TOKENIZER_BYTES:
            raise ValueError(f"{name} is longer than {MAX_TOKENIZER_BYTES:,} bytes")
    for name in _OBJECTS:
        if not (folder / name).is_file():
            continue
        table = read_object(folder / name, 4 * MAX_JSON_BYTES)
        added = table if name == "added_tokens.json" else table.get("added_tokens_decoder")
        if isinstance(added, dict) and len(added) > MAX_ADDED_TOKENS:
            raise ValueError(f"{name} adds {len(added):,} tokens; the most is {MAX_ADDED_TOKENS:,}")
