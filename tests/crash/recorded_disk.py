"""A model of a disk that loses power: what was flushed is there, what was not may be there in part.

`os.fsync` is replaced by a record of what the file or the folder holds at that moment. All other operations
are real. At each flush, `RecordedDisk` compares the real folder with the record and lays out states that a
power cut could leave:

- everything unflushed is dropped: names that were not flushed are missing, old names are back, files have the
  bytes of their last flush, and a file that was never flushed is empty;
- everything is there, as after a kill of the program alone;
- any part of it, chosen by a seed: each name is old or new, each file has its flushed bytes, its new ones, a
  prefix of them, or zeros. This is more than journaling file systems do: they keep renames whole.

SQLite's writes cannot be seen from Python. With `synchronous=FULL` a commit flushes the database and its
write-ahead log, so that is what `committed` records.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Protocol

import pytest

from barnraise.runtime import files

DATABASE = "journal.sqlite"
_DATABASE_FILES = (DATABASE, f"{DATABASE}-wal")


@dataclass(frozen=True)
class Entry:
    """What a name in a folder stands for."""

    inode: int
    folder: bool


Folder = dict[str, Entry]
Check = Callable[[Path], None]
"""Opens what a power cut left, and asserts what must be there."""


class Survival(Protocol):
    """What of the unflushed names and bytes a power cut leaves."""

    def name(self, old: Entry | None, new: Entry | None) -> Entry | None:
        """What a name stands for. old: as it was flushed."""

    def content(self, old: bytes, new: bytes) -> bytes:
        """The bytes of a file. old: as they were flushed."""


@dataclass
class RecordedDisk:
    """A folder on a disk whose flushes are recorded."""

    root: Path
    scratch: Path
    """Where states are laid out."""
    check: Check
    seeds: int = 1
    """Partial states for each flush."""
    states: int = 0
    """States that were checked."""
    _folders: dict[int, Folder] = field(default_factory=dict)
    """Names that were flushed, by the folder's inode."""
    _files: dict[int, bytes] = field(default_factory=dict)
    """Bytes that were flushed, by the file's inode."""
    _open: list[int] = field(default_factory=list)
    """Keeps recorded inodes from being used again."""
    _checking: bool = False

    @contextmanager
    def recording(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """Record all flushes below `root`, which counts as flushed at the start, and check at each."""
        self._flush_all()
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", self._fsync)
            try:
                yield
                self.cut_power()
            finally:
                for handle in self._open:
                    os.close(handle)

    def committed(self) -> None:
        """SQLite has committed. Power may be cut now."""
        folder = self._folders[self.root.stat().st_ino]
        for name in _DATABASE_FILES:
            if (file := self.root / name).exists():
                folder[name] = _entry(file)
                self._record_file(os.open(file, os.O_RDONLY))
        self.cut_power()

    def cut_power(self) -> None:
        """Check the states that a power cut could leave now."""
        if self._checking:
            return
        self._checking = True
        try:
            parts = [_Part(Random(self.states + at)) for at in range(self.seeds)]
            survivals: list[Survival] = [_Dropped(), _Kept(), *parts]
            for kept in survivals:
                state = self.scratch / f"state-{self.states}"
                self._lay_out(self.root, self.root.stat().st_ino, state, kept)
                self.states += 1
                self.check(state)
        finally:
            self._checking = False

    def _fsync(self, handle: int) -> None:
        if self._checking or not self._is_below(handle):
            return
        self.cut_power()
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            self._record_folder(os.dup(handle))
        else:
            self._record_file(os.dup(handle))

    def _is_below(self, handle: int) -> bool:
        return Path(os.readlink(f"/proc/self/fd/{handle}")).is_relative_to(self.root)

    def _record_folder(self, handle: int) -> None:
        self._open.append(handle)
        found = {}
        for name in os.listdir(handle):
            status = os.stat(name, dir_fd=handle)
            found[name] = Entry(status.st_ino, stat.S_ISDIR(status.st_mode))
        self._folders[os.fstat(handle).st_ino] = found

    def _record_file(self, handle: int) -> None:
        self._open.append(handle)
        status = os.fstat(handle)
        self._files[status.st_ino] = os.pread(handle, status.st_size, 0)

    def _flush_all(self) -> None:
        for place, _, names in os.walk(self.root):
            self._record_folder(os.open(place, os.O_RDONLY))
            for name in names:
                self._record_file(os.open(Path(place) / name, os.O_RDONLY))

    def _lay_out(self, real: Path | None, inode: int, target: Path, kept: Survival) -> None:
        target.mkdir(parents=True)
        flushed = self._folders.get(inode, {})
        there = {path.name: path for path in real.iterdir()} if real is not None and real.is_dir() else {}
        for name in sorted({*flushed, *there}):
            if name in _DATABASE_FILES:
                chosen = flushed.get(name)
            else:
                new = _entry(there[name]) if name in there else None
                chosen = kept.name(flushed.get(name), new)
            if chosen is None or name == f"{DATABASE}-shm":
                continue
            path = there.get(name)
            same = path if path is not None and _entry(path) == chosen else None
            if chosen.folder:
                self._lay_out(same, chosen.inode, target / name, kept)
            else:
                (target / name).touch(mode=0o600)  # as a temporary file is made
                (target / name).write_bytes(self._content(chosen, same, name, kept))

    def _content(self, entry: Entry, path: Path | None, name: str, kept: Survival) -> bytes:
        flushed = self._files.get(entry.inode, b"")
        if path is None or name in _DATABASE_FILES:
            return flushed
        new = path.read_bytes()
        return flushed if flushed == new else kept.content(flushed, new)


def forget_flushes(monkeypatch: pytest.MonkeyPatch, of: str) -> None:
    """Leave out the flushes of all `files`, or of all `folders`."""
    real = files.flush

    def forgetful(path: Path) -> None:
        if path.is_dir() == (of == "files"):
            real(path)

    monkeypatch.setattr(files, "flush", forgetful)


def _entry(path: Path) -> Entry:
    status = path.stat()
    return Entry(status.st_ino, stat.S_ISDIR(status.st_mode))


class _Dropped:
    """Nothing unflushed is there."""

    def name(self, old: Entry | None, new: Entry | None) -> Entry | None:
        return old

    def content(self, old: bytes, new: bytes) -> bytes:
        return old


class _Kept:
    """Everything is there."""

    def name(self, old: Entry | None, new: Entry | None) -> Entry | None:
        return new

    def content(self, old: bytes, new: bytes) -> bytes:
        return new


@dataclass(frozen=True)
class _Part:
    """Some of it is there."""

    random: Random

    def name(self, old: Entry | None, new: Entry | None) -> Entry | None:
        return old if old == new else self.random.choice((old, new))

    def content(self, old: bytes, new: bytes) -> bytes:
        return self.random.choice((old, new, new[: len(new) // 2], bytes(len(new))))
