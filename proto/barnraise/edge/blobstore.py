"""Content-addressed files: a blob's name is its SHA-256."""

from __future__ import annotations

import hashlib
import mmap
import os
import re
from collections.abc import Container
from pathlib import Path

from barnraise.edge.files import disk_errors, write_atomic
from barnraise.errors import HashMismatch
from barnraise.ids import HASH_PATTERN, BlobHash, blob_hash, short


class BlobStore:
    """Blobs in `folder/ab/abcdef…`. Every method may be called from any thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, name: BlobHash) -> Path:
        if not re.fullmatch(HASH_PATTERN, name):
            raise HashMismatch(
                f"{name[:80]!r} is not a SHA-256", fix="Nothing to do: the request is refused."
            )
        return self._folder / name[:2] / name

    def __contains__(self, name: BlobHash) -> bool:
        return self.path(name).is_file()

    def size(self, name: BlobHash) -> int:
        return self.path(name).stat().st_size

    def put(self, data: bytes | bytearray) -> BlobHash:
        name = blob_hash(data)
        if name not in self:
            write_atomic(self.path(name), data)
        return name

    def adopt(self, file: Path) -> BlobHash:
        """Give `file` a second name in the store (a hard link, or a copy across disks)."""
        name = file_hash(file)
        target = self.path(name)
        if not target.exists():
            with disk_errors(target):
                target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(file, target)
            except OSError:  # another disk, or a file system without links
                write_atomic(target, file.read_bytes())
        return name

    def get(self, name: BlobHash) -> bytes:
        """Raises HashMismatch when the file on disk is no longer what its name says."""
        data = self.path(name).read_bytes()
        if blob_hash(data) != name:
            self.path(name).unlink()
            raise HashMismatch(
                f"the stored blob {short(name)} is damaged",
                fix="It was removed; start again to fetch it anew.",
            )
        return data

    def view(self, name: BlobHash) -> memoryview:
        """A blob's bytes mapped from disk, so that they cost no memory of ours. Not checked here."""
        with self.path(name).open("rb") as file:
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))

    def partial(self, name: BlobHash) -> Path:
        """Where a download of `name` grows, so that a broken one can be resumed."""
        path = self.path(name).with_suffix(".part")
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def accept(self, name: BlobHash) -> Path:
        """Check a finished download and give it its name. Raises HashMismatch, and drops the bytes."""
        part = self.partial(name)
        found = file_hash(part)
        if found != name:
            part.unlink()
            raise HashMismatch(
                f"asked for {short(name)}, got bytes that hash to {short(found)}",
                fix="They were dropped. Try again: another source is asked where there is one.",
            )
        os.replace(part, self.path(name))
        return self.path(name)

    def keep_only(self, names: Container[BlobHash]) -> None:
        """Remove every other blob, and downloads that were never finished."""
        for path in self._folder.glob("??/*"):
            if BlobHash(path.name) not in names:
                path.unlink()

    def remove(self, name: BlobHash) -> None:
        self.path(name).unlink(missing_ok=True)


def file_hash(file: Path) -> BlobHash:
    digest = hashlib.sha256()
    with file.open("rb") as opened:
        while piece := opened.read(1 << 20):
            digest.update(piece)
    return BlobHash(digest.hexdigest())
