"""The weight files of a model folder, by their headers: which tensors they hold, and whether they are whole.

Nothing here reads a weight. Which files belong to a model is decided as transformers does, so that files of
an earlier save in the same folder are not taken for the model's.
"""

from __future__ import annotations

import json
import shlex
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePath

from pydantic import TypeAdapter
from safetensors import SafetensorError, safe_open

from barnraise.contract.base_files import WEIGHTS
from barnraise.core.errors import ModelUnusable
from barnraise.core.units import format_bytes
from barnraise.models.causal_lm import unreadable
from barnraise.models.model_config import read_object
from barnraise.models.model_files import INDEX

WHOLE = "model.safetensors"
"""A model's only file of weights. transformers loads it even where there is an index of others."""

_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_MAX_HEADER_BYTES = 2**25
"""Ten times what the largest models have. The safetensors library permits 100 MB, and Python makes gigabytes
of objects of that."""
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
    if (folder / WHOLE).is_file():
        return read_header(folder / WHOLE)
    if not (folder / INDEX).is_file():
        present = ", ".join(sorted(file.name for file in folder.glob(WEIGHTS))[:3])
        raise ModelUnusable(
            f"{folder} has {present}, and neither {WHOLE} nor {INDEX}, which lists the files of a model",
            fix=f"Get {INDEX} as well, or rename a single file to {WHOLE}.",
        )
    places = weight_map(folder)
    _check_shards(folder, set(places.values()))
    headers = {name: read_header(folder / name) for name in sorted(set(places.values()))}
    held = {tensor for header in headers.values() for tensor in header}
    for tensor, name in places.items():
        if tensor in held and tensor not in headers[name]:
            raise _broken(folder / INDEX, f"says that {tensor} is in {name}, which does not hold it")
    return {tensor: headers[name][tensor] for tensor, name in places.items() if tensor in held}


def tensor_files(folder: Path) -> dict[str, Path]:
    """The file of each tensor that transformers loads, which ignores what the index does not list.

    Raises ModelUnavailable for a broken file, ModelUnusable for a broken index.
    """
    whole, index = folder / WHOLE, folder / INDEX
    if not whole.is_file() and index.is_file():
        return {tensor: folder / name for tensor, name in weight_map(folder).items()}
    found: dict[str, Path] = {}
    for file in [whole] if whole.is_file() else sorted(folder.glob(WEIGHTS)):
        with unreadable(file), safe_open(file, framework="numpy") as tensors:
            found.update(dict.fromkeys(tensors.keys(), file))
    return found


def weight_map(folder: Path) -> dict[str, str]:
    """The name of the file of each tensor, by the folder's index. Raises ModelUnusable."""
    try:
        table = read_object(folder / INDEX, _MAX_HEADER_BYTES)
        places = {str(tensor): str(name) for tensor, name in table["weight_map"].items()}
    except (ValueError, LookupError, TypeError, AttributeError):
        raise _broken(folder / INDEX, "has no table `weight_map` of tensors to files") from None
    for name in places.values():
        if not PurePath(name).match(WEIGHTS) or PurePath(name).name != name:
            raise _broken(folder / INDEX, f"names {name!r:.80}, which is no file of weights next to it")
    return places


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
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise _broken(file, "has a header that is not of a safetensors file") from None
    whole = _LENGTH_BYTES + length + max((tensor.data_offsets[1] for tensor in tensors.values()), default=0)
    if size != whole:
        problem = f"has {format_bytes(size)} where its header says {format_bytes(whole)}"
        raise _broken(file, f"{problem} ({size:,} of {whole:,} bytes)")
    try:
        with safe_open(file, framework="numpy"):
            pass
    except SafetensorError as error:  # such as tensors that overlap
        raise _broken(file, f"has a header that is not of a safetensors file ({error})") from None
    return tensors


def refuse_pointers(files: Iterable[Path]) -> None:
    """Raise ModelUnusable where files are Git LFS pointers: a clone without LFS has them for large files."""
    pointers = sorted(path for path in files if _is_pointer(path))
    if pointers:
        names = ", ".join(path.name for path in pointers[:3]) + (", …" if len(pointers) > 3 else "")
        raise ModelUnusable(
            f"{names} in {pointers[0].parent} {'is a' if len(pointers) == 1 else 'are'} Git LFS"
            f" pointer{'' if len(pointers) == 1 else 's'}, without the contents",
            fix="Fetch the contents: `git lfs install`, then `git -C"
            f" {shlex.quote(str(pointers[0].parent))} lfs pull`.",
        )


def _is_pointer(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(len(_LFS_POINTER)) == _LFS_POINTER


def _check_shards(folder: Path, listed: set[str]) -> None:
    absent = sorted(listed - {path.name for path in folder.glob(WEIGHTS)})
    if absent:
        names = ", ".join(absent[:3]) + (", …" if len(absent) > 3 else "")
        raise ModelUnusable(
            f"{folder} lacks {len(absent)} of the {len(listed)} files that {INDEX} lists: {names}",
            fix="Download them into that folder, or get the complete model again.",
        )


def _broken(file: Path, problem: str) -> ModelUnusable:
    return ModelUnusable(f"{file} {problem}", fix="Remove it and download it again.")
