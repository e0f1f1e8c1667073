"""Walks the header of a .gguf file before a library reads it: bounded counts, for any claims of the file.

The gguf library makes Python objects of each element of each array, and trusts every count.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

from barnraise.models.model_config import limit_of

MAX_KEYS = 4096
MAX_ELEMENTS = 2**22
"""Of all arrays together: tokens, their scores and types, merges. The largest vocabularies have 260,000."""
MAX_TEXT = 2**24
"""Bytes of a text, such as a chat template."""
MAX_TOKEN = 4096
"""Bytes of a text in an array, such as a token: transformers tries each way to cut a token into two."""
MAX_ARRAY_TEXT = 2**26
"""Bytes of all texts in arrays. The largest vocabularies have 10 MB with their merges."""
MAX_TENSORS = 200_000
MAX_DIMENSIONS = 8
_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Bytes of a value, by its type."""
_WHOLE = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 10: "<Q", 11: "<q"}
_TEXT, _ARRAY = 8, 9


def check_counts(path: Path) -> None:
    """Raise ValueError where the header is cut, or counts more than any model has. Raises OSError."""
    with path.open("rb") as file:
        walk = _Walk(file, path.stat().st_size)
        if walk.take(4) != _MAGIC or walk.number("<I") not in _VERSIONS:
            raise ValueError("not a GGUF file of version 2 or 3, little-endian")
        tensors = walk.counted("<Q", MAX_TENSORS, "tensors")
        for _ in range(walk.counted("<Q", MAX_KEYS, "keys")):
            walk.pair()
        for _ in range(tensors):
            walk.tensor()


class _Walk:
    """A position in a header. Every read is bounded by the file and by a limit."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size, self._elements, self._texts = file, size, 0, 0

    def take(self, count: int) -> bytes:
        data = self._file.read(count)
        if len(data) < count:
            raise ValueError("its header is cut")
        return data

    def skip(self, count: int) -> None:
        if self._file.seek(count, 1) > self._size:
            raise ValueError("its header is cut")

    def number(self, layout: str) -> int:
        return int(struct.unpack(layout, self.take(struct.calcsize(layout)))[0])

    def counted(self, layout: str, limit: int, what: str) -> int:
        number = self.number(layout)
        if number > limit:
            raise ValueError(f"its header has {number:,} {what}; the most is {limit:,}")
        return number

    def text(self) -> bytes:
        return self.take(self.counted("<Q", MAX_TEXT, "bytes in a text"))

    def pair(self) -> None:
        key = self.text().decode("utf-8", errors="replace")
        kind = self.number("<I")
        if kind in _WHOLE:
            number, limit = self.number(_WHOLE[kind]), limit_of(key.rpartition(".")[2])
            if abs(number) > limit and not key.startswith("general."):
                raise ValueError(f"{key} is {number:,}; the most is {limit:,}")
        else:
            self._value(kind)

    def _value(self, kind: int) -> None:
        if kind in _SIZES:
            self.skip(_SIZES[kind])
        elif kind == _TEXT:
            self.text()
        elif kind == _ARRAY:
            self._array()
        else:
            raise ValueError(f"its header has a value of the unknown type {kind}")

    def _array(self) -> None:
        kind, count = self.number("<I"), self.number("<Q")
        self._elements += count
        if self._elements > MAX_ELEMENTS:
            raise ValueError(f"the arrays in its header have more than {MAX_ELEMENTS:,} elements")
        if kind in _SIZES:
            self.skip(count * _SIZES[kind])
            return
        if kind != _TEXT:
            raise ValueError("its header has arrays of arrays")
        for _ in range(count):
            self._texts += len(self.take(self.counted("<Q", MAX_TOKEN, "bytes in a text of an array")))
            if self._texts > MAX_ARRAY_TEXT:
                raise ValueError(f"the texts of its arrays have more than {MAX_ARRAY_TEXT:,} bytes")

    def tensor(self) -> None:
        self.text()
        for _ in range(self.counted("<I", MAX_DIMENSIONS, "dimensions of a tensor")):
            self.skip(8)
        self.skip(4 + 8)  # its type, and where its bytes begin
