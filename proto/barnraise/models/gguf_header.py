"""What the header of a .gguf file says: whether it is a whole model, before anything is made from it."""

from __future__ import annotations

from pathlib import Path

from barnraise.core.errors import ModelUnusable
from barnraise.models.causal_lm import first_words
from barnraise.models.gguf_limits import check_counts
from barnraise.models.weight_files import refuse_pointers

_SIZES = ("block_count", "embedding_length")
"""Settings without which transformers makes a model of its default size, which may fill the memory."""


def check_header(path: Path) -> None:
    """Raise ModelUnusable for a file that is cut, a part of a model, an adapter, or without settings."""
    from gguf import GGUFReader

    refuse_pointers([path])
    try:
        check_counts(path)
        reader = GGUFReader(path)
    except (ValueError, LookupError, OverflowError, OSError) as error:
        raise ModelUnusable(
            f"{path} is cut, or no GGUF file: {first_words(error)}", fix="Remove it and download it again."
        ) from None
    texts = {name: str(_value(reader, name)) for name in ("general.type", "general.architecture")}
    kind, architecture = texts["general.type"], texts["general.architecture"]
    if kind not in ("None", "model"):
        raise ModelUnusable(
            f"{path} holds no model (its general.type is {kind})", fix="Name the .gguf file of the model."
        )
    parts = _value(reader, "split.count")
    if isinstance(parts, int) and parts > 1:
        raise ModelUnusable(
            f"{path} is one of the {parts} parts of a model",
            fix="Join them with llama.cpp: `llama-gguf-split --merge FIRST_PART JOINED.gguf`.",
        )
    absent = [key for key in _SIZES if _value(reader, f"{architecture}.{key}") is None]
    if absent or not reader.tensors:
        what = f"{architecture}.{absent[0]}" if absent else "tensors"
        raise ModelUnusable(
            f"{path} has no {what}, so it is no whole model", fix="Name the file of a whole model."
        )


def _value(reader: object, name: str) -> object:
    field = reader.get_field(name)  # type: ignore[attr-defined]
    return None if field is None else field.contents()
