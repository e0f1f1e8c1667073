"""Opens compressed files: their first bytes decide, not their names, as browsers unpack without renaming."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import cast

from typing_extensions import Buffer

from barnraise.core.errors import DatasetError

FAILURES: tuple[type[Exception], ...] = (OSError, EOFError, zlib.error, lzma.LZMAError)
"""What reading a file raises that is truncated, damaged or not readable."""
_GZIP, _BZIP2, _XZ, _ZSTD = b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd"
_BUFFER = 1 << 18


class Chunks(io.RawIOBase):
    """A stream over a function that reads at most a given number of bytes, and none at the end."""

    def __init__(self, read: Callable[[int], bytes], close: Callable[[], None]) -> None:
        self._read, self._close = read, close

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int:
        view = memoryview(buffer).cast("B")
        data = self._read(len(view))
        view[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._close()
        super().close()


def open_unpacked(path: Path) -> io.BufferedReader:
    """The bytes of `path`, unpacked. Raises OSError; DatasetError where a package is missing."""
    with path.open("rb") as file:
        head = file.read(len(_XZ))
    if head.startswith(_ZSTD):
        return _zstd(path)
    if head.startswith(_GZIP):
        return _buffered(gzip.open(path))
    if head.startswith(_BZIP2):
        return _buffered(bz2.open(path))
    return _buffered(lzma.open(path) if head.startswith(_XZ) else io.FileIO(path))


def _buffered(stream: object) -> io.BufferedReader:
    return io.BufferedReader(cast(io.RawIOBase, stream), _BUFFER)


def _zstd(path: Path) -> io.BufferedReader:
    try:
        from pyarrow import CompressedInputStream
    except ImportError:
        raise DatasetError(
            f"{path} needs pyarrow, which is not installed",
            fix="Run `pip install '.[data]'` in Barnraise's checkout, or unpack the file.",
        ) from None
    stream = CompressedInputStream(str(path), "zstd")
    return io.BufferedReader(Chunks(stream.read, stream.close), _BUFFER)
