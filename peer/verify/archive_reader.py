"""The files of an archive that a proof needs, memory-mapped: their number costs no memory.

Files of a local folder are mapped in place; files of a server are stored in a scratch folder meanwhile.
"""

from __future__ import annotations

import asyncio
import mmap
import tempfile
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

from barnraise.contract.archive import contribution_path
from barnraise.contract.log_entries import MAX_ENTRY_BYTES
from barnraise.contract.manifest import FileEntry
from barnraise.contract.records import Commit, blob_name
from barnraise.core.errors import MalformedRecord, Unreachable
from barnraise.fold.replay import Cause, Difference
from barnraise.runtime.blob_store import file_hash
from barnraise.runtime.files import disk_errors
from peer.archive.folder import FolderSource
from peer.archive.sources import Missing, Source

R = TypeVar("R")

TRIES = 3
"""Requests for a large file whose source disconnects; each resumes at the last byte."""
NOT_THERE = "it is missing"


@dataclass(frozen=True)
class ArchiveReader:
    """Reads one source. Every method raises Unreachable if the source does not answer, and DiskFull."""

    source: Source
    scratch: Path

    async def entry(self, path: str) -> bytes | Difference:
        """The payload of an entry of the log."""
        expected = "an entry of the log"
        try:
            return await self.source.get_small(path, MAX_ENTRY_BYTES)
        except Missing:
            return Difference("entry", path, expected, NOT_THERE, Cause.ABSENT)
        except MalformedRecord as error:
            return Difference("entry", path, expected, error.problem, Cause.SOURCE)

    async def contribution(self, commit: Commit) -> memoryview | Difference:
        """The bytes at the place of the commit's blob. They are not checked here."""
        path = contribution_path(blob_name(commit))
        try:
            if isinstance(self.source, FolderSource):
                return await asyncio.to_thread(_read, self.source, path, _mapped)
            with disk_errors(self.scratch), tempfile.TemporaryFile(dir=self.scratch) as file:
                await self._receive(path, commit.size, file)
                return _mapped(file)  # the bytes stay while they are mapped
        except Missing:
            expected = f"the contribution of {commit.owner[:8]} to round {commit.round}"
            return Difference("contribution", path, expected, NOT_THERE, Cause.ABSENT)

    async def file(self, folder: str, entry: FileEntry) -> Path | Difference:
        """A checkpoint's file that matches its manifest.

        folder: the checkpoint's folder in the source; empty if it is the source.
        """
        path = f"{folder}/{entry.name}".removeprefix("/")
        expected = f"{entry.size} bytes that hash to {entry.hash}"
        try:
            if isinstance(self.source, FolderSource):
                there = await asyncio.to_thread(_read, self.source, path, lambda file: Path(file.name))
            else:
                there = self.scratch / entry.hash
                with disk_errors(there), there.open("wb") as file:
                    await self._receive(path, entry.size, file)
        except Missing:
            return Difference("file", path, expected, NOT_THERE, Cause.ABSENT)
        size, found = there.stat().st_size, await asyncio.to_thread(file_hash, there)
        if (size, found) != (entry.size, entry.hash):
            return Difference("file", path, expected, f"{size} bytes that hash to {found}", Cause.SOURCE)
        return there

    async def _receive(self, path: str, size: int, file: BinaryIO) -> None:
        for attempt in range(1, TRIES + 1):
            try:
                async with aclosing(self.source.read(path, file.tell(), size - file.tell())) as pieces:
                    async for piece in pieces:
                        file.write(piece)
                break
            except Missing:
                raise
            except Unreachable:
                if attempt == TRIES:
                    raise
        file.flush()


def _read(source: FolderSource, path: str, read: Callable[[BinaryIO], R]) -> R:
    """Opens and closes in one thread: a cancelled caller cannot leave the file open."""
    with source.open(path) as file:
        return read(file)


def _mapped(file: BinaryIO) -> memoryview:
    file.seek(0, 2)
    if file.tell() == 0:  # mmap refuses empty files
        return memoryview(b"")
    return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
