"""Content-addressed files: a blob's name is its SHA-256."""

from __future__ import annotations

import hashlib
import mmap
import os
import re
from collections.abc import Container
from pathlib import Path

from barnraise.contract.pieces import HASH_BYTES, piece_count, piece_list
from barnraise.core.errors import HashMismatch, Unreachable
from barnraise.core.ids import HASH_PATTERN, BlobHash, blob_hash, short
from barnraise.runtime.files import disk_errors, link_or_copy, write_atomic

PART, PIECES, LISTING = ".part", ".pieces", ".list"
"""Suffixes of a blob's files: a sequential download, a download in pieces, and the piece list."""


class BlobStore:
    """Blobs in `folder/ab/abcdef…`. Every method may be called from any thread."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, name: BlobHash) -> Path:
        if not re.fullmatch(HASH_PATTERN, name):
            raise HashMismatch(
                f"{name[:80]!r} is not a SHA-256", fix="The request is refused; nothing needs to be done."
            )
        return self.folder / name[:2] / name

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
        """Add `file` to the store by a hard link, or by a copy across disks."""
        name = file_hash(file)
        target = self.path(name)
        if not target.exists():
            with disk_errors(target):
                target.parent.mkdir(parents=True, exist_ok=True)
            link_or_copy(file, target)
        return name

    def get(self, name: BlobHash) -> bytes:
        """Raises HashMismatch when the file on disk is no longer what its name says."""
        data = self.path(name).read_bytes()
        if blob_hash(data) != name:
            self.path(name).unlink()
            raise HashMismatch(
                f"the stored blob {short(name)} is damaged",
                fix="It was removed; start again to fetch it.",
            )
        return data

    def view(self, name: BlobHash) -> memoryview:
        """A blob's bytes, mapped from disk instead of read into memory, and not checked."""
        with self.path(name).open("rb") as file:
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))

    def partial(self, name: BlobHash) -> Path:
        """The file of a sequential download of `name`, which can be resumed."""
        return self._sibling(name, PART)

    def in_pieces(self, name: BlobHash) -> Path:
        """The file of a download of `name` in pieces, in any order."""
        return self._sibling(name, PIECES)

    def accept(self, name: BlobHash) -> Path:
        """Check a finished download and rename it to its hash. Raises HashMismatch, and removes the file.

        Raises Unreachable where the file was removed in the meantime.
        """
        return self._accept(name, self.partial(name))

    def accept_pieces(self, name: BlobHash) -> Path:
        """`accept` for a download in pieces."""
        return self._accept(name, self.in_pieces(name))

    def _accept(self, name: BlobHash, part: Path) -> Path:
        try:
            found = file_hash(part)
            if found == name:
                os.replace(part, self.path(name))
                return self.path(name)
        except FileNotFoundError:
            raise Unreachable(
                f"the blob {short(name)} was removed while it was fetched",
                fix="It is requested again where it is still needed.",
            ) from None
        part.unlink(missing_ok=True)
        raise HashMismatch(
            f"asked for {short(name)}, got bytes that hash to {short(found)}",
            fix="They were dropped. Try again; another source is used where there is one.",
        )

    def listing(self, name: BlobHash) -> Path:
        """The file of the piece list of `name`."""
        return self._sibling(name, LISTING)

    def piece_list(self, name: BlobHash) -> bytes:
        """The piece list of a stored blob. The first call is slow: it reads the blob."""
        path, count = self.listing(name), piece_count(self.size(name))
        if path.is_file() and path.stat().st_size == count * HASH_BYTES:
            return path.read_bytes()
        wire = piece_list(self.view(name)) if count else b""
        write_atomic(path, wire)
        return wire

    def keep_only(self, names: Container[BlobHash]) -> None:
        """Remove all other blobs, and unfinished downloads."""
        for path in self.folder.glob("??/*"):
            name = path.name.removesuffix(LISTING)
            if BlobHash(name) not in names:
                path.unlink()

    def remove(self, name: BlobHash) -> None:
        """Remove a blob, its piece list and its unfinished downloads."""
        for path in (self.path(name), *(self.path(name).with_suffix(end) for end in (PART, PIECES, LISTING))):
            path.unlink(missing_ok=True)

    def _sibling(self, name: BlobHash, end: str) -> Path:
        path = self.path(name).with_suffix(end)
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        return path


def file_hash(file: Path) -> BlobHash:
    digest = hashlib.sha256()
    with file.open("rb") as opened:
        while piece := opened.read(1 << 20):
            digest.update(piece)
    return BlobHash(digest.hexdigest())
