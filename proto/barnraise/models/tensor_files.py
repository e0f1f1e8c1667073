"""Writes safetensors files tensor by tensor: the library's own writer needs a whole copy in memory.

Finds the tensors of such a file too, so that each can be served as a blob.

The format: 8 bytes little-endian length of a JSON header, the header, then the tensors' bytes
(github.com/huggingface/safetensors, "Format").
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from barnraise.core.errors import FileDamaged
from barnraise.core.ids import BlobHash
from barnraise.runtime.blob_store import FilePart
from barnraise.runtime.files import Batch, replacing

_DTYPES = {"float32": "F32", "int64": "I64"}
_MAX_HEADER_BYTES = 2**26


def write_tensors(path: Path, tensors: Mapping[str, npt.NDArray[Any]], batch: Batch | None = None) -> None:
    """Write fp32 and int64 arrays to `path`, as `replacing` does. Raises DiskFull, MachineError."""
    header: dict[str, object] = {}
    end = 0
    for name, array in sorted(tensors.items()):
        start, end = end, end + array.nbytes
        header[name] = {
            "dtype": _DTYPES[str(array.dtype)],
            "shape": list(array.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with replacing(path, batch=batch) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, array in sorted(tensors.items()):
            file.write(np.ascontiguousarray(array).data)


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file that `write_tensors` wrote."""

    name: str
    shape: tuple[int, ...]
    digest: BlobHash
    """SHA-256 of its bytes."""
    part: FilePart


def stored_tensors(path: Path) -> list[StoredTensor]:
    """The tensors of one of our own files. Slow: reads all of it. Raises FileDamaged."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header: dict[str, Any] = json.loads(file.read(min(length, _MAX_HEADER_BYTES)))
            found = []
            for name, entry in header.items():
                start, end = entry["data_offsets"]
                part = FilePart(path, 8 + length + start, end - start)
                found.append(StoredTensor(name, tuple(entry["shape"]), _digest(part), part))
            return found
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise FileDamaged(
            f"{path.name} cannot be read: {error}", fix="It is not served to others. Check the disk."
        ) from None


def _digest(part: FilePart) -> BlobHash:
    digest, left = hashlib.sha256(), part.size
    with part.path.open("rb") as file:
        file.seek(part.offset)
        while data := file.read(min(left, 1 << 20)):
            digest.update(data)
            left -= len(data)
    return BlobHash(digest.hexdigest())
