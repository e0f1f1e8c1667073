"""The weight files of a model folder, by their headers: which tensors they hold, and whether they are whole.

Nothing here reads a weight.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from barnraise.core.errors import ModelUnusable
from barnraise.core.units import format_bytes
from barnraise.models.model_files import INDEX

_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_MAX_HEADER_BYTES = 100_000_000
"""Limit of the safetensors library."""
_LENGTH_BYTES = 8
"""A header begins with its length: an unsigned integer of 64 bits, little-endian."""


@dataclass(frozen=True)
class TensorHeader:
    """What a safetensors file says of one tensor."""

    dtype: str
    """As the format names it, such as BF16."""
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]
    """Begin and end in the bytes behind the header."""


_HEADER: TypeAdapter[dict[str, TensorHeader]] = TypeAdapter(dict[str, TensorHeader])


def read_headers(folder: Path) -> dict[str, TensorHeader]:
    """All tensors of the model in `folder`, by name. Raises ModelUnusable for absent or broken files."""
    refuse_pointers(path for path in folder.iterdir() if path.is_file())
    files = sorted(folder.glob("model*.safetensors"))
    _check_index(folder, {file.name for file in files})
    found: dict[str, TensorHeader] = {}
    for file in files:
        found |= read_header(file)
    return found


def read_header(file: Path) -> dict[str, TensorHeader]:
    """The tensors of one safetensors file. Raises ModelUnusable where it is not one, or is cut."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        start = stream.read(_LENGTH_BYTES)
        length = struct.unpack("<Q", start)[0] if len(start) == _LENGTH_BYTES else size
        if length > min(size - _LENGTH_BYTES, _MAX_HEADER_BYTES):
            raise _broken(file, "is cut within its header, or is not a safetensors file")
        text = stream.read(length)
    try:
        table = json.loads(text)
        table.pop("__metadata__", None)
        tensors = _HEADER.validate_python(table)
    except (ValueError, TypeError, AttributeError):
        raise _broken(file, "has a header that is not of a safetensors file") from None
    whole = _LENGTH_BYTES + length + max((tensor.data_offsets[1] for tensor in tensors.values()), default=0)
    if size != whole:
        problem = f"has {format_bytes(size)} where its header says {format_bytes(whole)}"
        raise _broken(file, f"{problem} ({size:,} of {whole:,} bytes)")
    return tensors


def refuse_pointers(files: Iterator[Path]) -> None:
    """Raise ModelUnusable where files are Git LFS pointers: a clone without LFS has them for large files."""
    pointers = sorted(path for path in files if _is_pointer(path))
    if pointers:
        names = ", ".join(path.name for path in pointers[:3]) + (", …" if len(pointers) > 3 else "")
        raise ModelUnusable(
            f"{names} in {pointers[0].parent} {'is a' if len(pointers) == 1 else 'are'} Git LFS"
            f" pointer{'' if len(pointers) == 1 else 's'}, without the contents",
            fix=f"Fetch the contents: `git lfs install`, then `git -C {pointers[0].parent} lfs pull`.",
        )


def _is_pointer(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(len(_LFS_POINTER)) == _LFS_POINTER


def _check_index(folder: Path, present: set[str]) -> None:
    if not (folder / INDEX).is_file():
        return
    try:
        table: dict[str, Any] = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        listed = {str(name) for name in table["weight_map"].values()}
    except (ValueError, LookupError, TypeError, AttributeError):
        raise _broken(folder / INDEX, "has no table `weight_map` of tensors to files") from None
    absent = sorted(listed - present)
    if absent:
        names = ", ".join(absent[:3]) + (", …" if len(absent) > 3 else "")
        raise ModelUnusable(
            f"{folder} lacks {len(absent)} of the {len(listed)} files that {INDEX} lists: {names}",
            fix="Download them into that folder, or get the complete model again.",
        )


def _broken(file: Path, problem: str) -> ModelUnusable:
    return ModelUnusable(f"{file} {problem}", fix="Remove it and download it again.")
