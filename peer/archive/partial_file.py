"""A file that is written in any order, and resumed after an interruption, in this process or the next."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, BinaryIO

from pydantic import Field, ValidationError

from barnraise.contract.manifest import FileEntry
from barnraise.core.ids import BlobHash
from barnraise.core.strict import Strict
from barnraise.runtime.blob_store import file_hash
from barnraise.runtime.files import (
    disk_errors,
    flush,
    keep_file,
    make_folder,
    remove_unfinished,
    write_atomic,
)
from peer.archive.range_picker import lacking, merged

EARLIER = None
"""The source of bytes that an earlier process received."""
SAVE_EVERY_BYTES = 8 * 2**20
"""Progress is saved after this many more bytes: what a killed process loses at most."""
_MAX_PROGRESS_BYTES = 2**20

SourceNumber = int | None
SpansBySource = dict[SourceNumber, list[tuple[int, int]]]
"""Which bytes each source served."""


class _Progress(Strict):
    """The content of the progress file of a partial file."""

    hash: str
    have: tuple[tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]], ...]


class PartialFile:
    """One file of a manifest. Its bytes have its final name only once their hash was checked."""

    def __init__(self, folder: Path, entry: FileEntry) -> None:
        self.entry = entry
        self.target = folder / entry.name
        self._part, self._progress_path = folder / f".{entry.name}.part", folder / f".{entry.name}.part.json"
        self._file: BinaryIO | None = None
        self._unsaved = 0
        earlier = self._load_progress()
        self._received: SpansBySource = {EARLIER: earlier} if earlier else {}

    @property
    def got(self) -> int:
        """Bytes that are here."""
        return sum(end - start for start, end in self._have())

    @property
    def sources(self) -> set[SourceNumber]:
        """The sources of the bytes that are here."""
        return set(self._received)

    def lacking(self) -> list[tuple[int, int]]:
        """The bytes that are not here, as pairs of start and end."""
        return lacking(self.entry.size, self._have())

    def write(self, at: int, data: bytes, source: SourceNumber) -> None:
        """Write bytes from a source at an offset. Raises DiskFull, MachineError."""
        with disk_errors(self.target):
            file, rest = self._opened(), memoryview(data)
            file.seek(at)
            while rest:  # a nearly full disk takes some of it
                rest = rest[file.write(rest) :]
        spans = self._received.setdefault(source, [])
        start = spans.pop()[0] if spans and spans[-1][1] == at else at
        spans.append((start, at + len(data)))
        self._unsaved += len(data)
        if self._unsaved >= SAVE_EVERY_BYTES:
            self.save_progress()

    def save_progress(self) -> None:
        """Save which bytes are here, for the next process. Raises DiskFull, MachineError."""
        if self._file is not None and self._unsaved:
            self._unsaved = 0
            with disk_errors(self._part):
                flush(self._part)
            progress = _Progress(hash=self.entry.hash, have=tuple(self._have()))
            write_atomic(self._progress_path, progress.model_dump_json().encode())

    def finish(self) -> BlobHash:
        """The hash of all bytes. If it is the manifest's, the file gets its final name. Slow: reads all
        bytes.

        Raises DiskFull, MachineError.
        """
        with disk_errors(self.target):
            self._opened().truncate(self.entry.size)
            self.close()
            found = file_hash(self._part)
            if found == self.entry.hash:
                keep_file(self._part, self.target)
                self._forget_progress()
        return found

    def set_aside(self) -> SpansBySource:
        """Start again, and keep the wrong bytes for `sources_of_false_bytes`."""
        received = self._received
        with disk_errors(self.target):
            self.close()
            os.replace(self._part, self._aside)
        self.restart()
        return received

    def sources_of_false_bytes(self, received: SpansBySource) -> set[SourceNumber]:
        """The sources whose bytes, of those set aside, differ from the complete file. Slow."""
        with disk_errors(self.target), self._aside.open("rb") as false, self.target.open("rb") as true:
            at_fault = {
                source
                for source, spans in received.items()
                if any(_differ(false, true, *span) for span in merged(spans))
            }
        self.clear_aside()
        return at_fault

    def restart(self) -> None:
        """Forget every byte."""
        self.close()
        self._received = {}
        with disk_errors(self.target):
            self._part.unlink(missing_ok=True)
            self._forget_progress()

    def clear_aside(self) -> None:
        """Remove what was set aside."""
        with disk_errors(self.target):
            self._aside.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file; what is in it stays."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _forget_progress(self) -> None:
        self._progress_path.unlink(missing_ok=True)
        remove_unfinished(self._progress_path)

    def _have(self) -> list[tuple[int, int]]:
        return merged(span for spans in self._received.values() for span in spans)

    @property
    def _aside(self) -> Path:
        return self._part.with_name(f"{self._part.name}.false")

    def _opened(self) -> BinaryIO:
        if self._file is None:
            make_folder(self._part.parent)
            self._file = open_for_parts(self._part)
        return self._file

    def _load_progress(self) -> list[tuple[int, int]]:
        """The bytes of the same file that an earlier process received."""
        try:
            with self._progress_path.open("rb") as file:
                progress = _Progress.model_validate_json(file.read(_MAX_PROGRESS_BYTES))
            there = self._part.stat().st_size
        except (FileNotFoundError, ValidationError):  # none, or cut off by a crash: start again
            return []
        if progress.hash != self.entry.hash:
            return []
        return [(start, min(end, there, self.entry.size)) for start, end in merged(progress.have)]


def open_for_parts(path: Path) -> BinaryIO:
    """Open for reading and writing at any place; existing content is kept."""
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), "r+b", buffering=0)


def _differ(one: BinaryIO, other: BinaryIO, start: int, end: int) -> bool:
    one.seek(start)
    other.seek(start)
    while start < end:
        size = min(2**20, end - start)
        if one.read(size) != other.read(size):
            return True
        start += size
    return False
