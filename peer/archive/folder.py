"""An archive in a folder of this machine."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import BinaryIO

from barnraise.core.errors import Unreachable
from peer.archive.sources import Missing, checked, ended_early, too_large

CHUNK = 1 << 20
"""Bytes read at once."""


class FolderSource:
    """Serves files below a folder. Also raises MalformedRecord for a path that would leave the folder."""

    ranges = True

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.name = str(folder)

    async def get_small(self, path: str, limit: int) -> bytes:
        """As `Source.get_small`."""
        data = await asyncio.to_thread(self._first, path, limit + 1)
        if len(data) > limit:
            raise too_large(f"{self.name}/{path}", limit)
        return data

    async def read(self, path: str, offset: int, length: int) -> AsyncGenerator[bytes, None]:
        """As `Source.read`."""
        with await asyncio.to_thread(self.open, path) as file:
            file.seek(offset)
            while length:
                piece = await asyncio.to_thread(file.read, min(length, CHUNK))
                if not piece:
                    raise ended_early(f"{self.name}/{path}", length)
                length -= len(piece)
                yield piece

    def _first(self, path: str, size: int) -> bytes:
        """Opens and closes in one thread: a cancelled caller cannot leave the file open."""
        with self.open(path) as file:
            return file.read(size)

    def open(self, path: str) -> BinaryIO:
        """A file of the archive, to be read or mapped. Raises as `get_small` does."""
        full = self._folder / checked(path)
        try:
            if not stat.S_ISREG(full.stat().st_mode):  # opening a pipe would block
                raise FileNotFoundError(f"{full} is not a regular file")
            return full.open("rb")
        except (FileNotFoundError, NotADirectoryError):
            raise Missing(
                f"there is no {path} in {self.name}", fix="Check the folder, or copy it again."
            ) from None
        except OSError as error:
            raise Unreachable(
                f"{full} cannot be read: {error.strerror}", fix="Check the disk and its permissions."
            ) from None
