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
"""What stands beside a blob's name: a download from its start, one in pieces, and its piece list."""


class BlobStore:
    """Blobs in `folder/ab/abcdef…`. Every method may be called from any thread."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, name: BlobHash) -> Path:
        if not re.fullmatch(HASH_PATTERN, name):
            raise HashMismatch(
                f"{name[:80]!r} is not a SHA-256", fix="Nothing to do: the request is refused."
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
        """Give `file` a second name in the store (a hard link, or a copy across disks)."""
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
                fix="It was removed; start again to fetch it anew.",
            )
        return data

    def view(self, name: BlobHash) -> memoryview:
        """A blob's bytes mapped from disk, so that they cost no memory of ours. Not checked here."""
        with self.path(name).open("rb") as file:
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))

    def partial(self, name: BlobHash) -> Path:
        """Where a download of `name` grows from its start on, so that a broken one can be resumed."""
        return self._beside(name, PART)

    def in_pieces(self, name: BlobHash) -> Path:
        """Where a download of `name` grows piece by piece, in any order."""
        return self._beside(name, PIECES)

    def accept(self, name: BlobHash) -> Path:
        """Check a finished download and give it its name. Raises HashMismatch, and drops the bytes.

        Raises Unreachable where somebody removed it meanwhile.
        """
        return self._accept(name, self.partial(name))

    def accept_pieces(self, name: BlobHash) -> Path:
        """As `accept`, of a download in pieces."""
        return self._accept(name, self.in_pieces(name))

    def _accept(self, name: BlobHash, part: Path) -> Path:
        try:
            found = file_hash(part)
            if found == name:
                os.replace(part, self.path(name))
                return self.path(name)
        except FileNotFoundError:
            raise Unreachable(
                f"the blob {short(name)} was dropped while it was fetched",
                fix="It is asked for again where it is still needed.",
            ) from None
        part.unlink(missing_ok=True)
        raise HashMismatch(
            f"asked for {short(name)}, got bytes that hash to {short(found)}",
            fix="They were dropped. Try again: another source is asked where there is one.",
        )

    def listing(self, name: BlobHash) -> Path:
        """Where the piece list of `name` is kept, once it is known."""
        return self._beside(name, LISTING)

    def piece_list(self, name: BlobHash) -> bytes:
        """The piece list of a blob that is here. Slow at the first call: it reads the blob."""
        path, count = self.listing(name), piece_count(self.size(name))
        if path.is_file() and path.stat().st_size == count * HASH_BYTES:
            return path.read_bytes()
        wire = piece_list(self.view(name)) if count else b""
        write_atomic(path, wire)
        return wire

    def keep_only(self, names: Container[BlobHash]) -> None:
        """Remove every other blob, and downloads that were never finished."""
        for path in self.folder.glob("??/*"):
            name = path.name.removesuffix(LISTING)
            if BlobHash(name) not in names:
                path.unlink()

    def remove(self, name: BlobHash) -> None:
        """Remove a blob, what is known of its pieces, and what came of it so far."""
        for path in (self.path(name), *(self.path(name).with_suffix(end) for end in (PART, PIECES, LISTING))):
            path.unlink(missing_ok=True)

    def _beside(self, name: BlobHash, end: str) -> Path:
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
