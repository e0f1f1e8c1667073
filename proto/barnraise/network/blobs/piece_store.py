"""Pieces on disk: of whole blobs, and of those that are still being downloaded."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field
from pathlib import Path

from barnraise.contract.pieces import PIECE_BYTES, PieceList, Wanted, every_piece, piece_count, piece_length
from barnraise.core.ids import BlobHash, blob_hash
from barnraise.network.blobs.served_blobs import set_damaged_aside
from barnraise.runtime.blob_store import BlobStore, file_hash
from barnraise.runtime.files import disk_errors, write_atomic

MAX_LISTS = 4096
"""Blobs of which the hash of the piece list is remembered."""


@dataclass(frozen=True)
class StoredBlob:
    """A whole blob of the store."""

    blobs: BlobStore
    name: BlobHash
    size: int

    @property
    def has(self) -> int:
        """All of its pieces, bit by bit."""
        return every_piece(piece_count(self.size))

    async def listing(self) -> bytes:
        """The wire form of its piece list."""
        return await asyncio.to_thread(self.blobs.piece_list, self.name)

    def read(self, index: int) -> bytes:
        """The bytes of a piece."""
        with self.blobs.path(self.name).open("rb") as file:
            file.seek(index * PIECE_BYTES)
            return file.read(piece_length(self.size, index))


class PartialBlob:
    """A blob of which some pieces are here, each one checked. Ends with `close`."""

    def __init__(self, path: Path, wanted: Wanted, pieces: PieceList) -> None:
        self.size, self.has = wanted.size, 0
        self._count, self._path, self._pieces = wanted.count, path, pieces
        with disk_errors(path):
            self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)

    def resume(self) -> None:
        """Keep the pieces that an earlier download left. Slow: it reads them all."""
        left = min(self.size, os.fstat(self._file).st_size)
        for index in range(piece_count(left)):
            if self._pieces.fits(index, self.read(index)):
                self.has |= 1 << index

    @property
    def missing(self) -> int:
        """The pieces that are not here, bit by bit."""
        return every_piece(self._count) & ~self.has

    def put(self, index: int, data: bytes | bytearray) -> bool:
        """Keep a piece. False, and nothing is kept, where its hash is wrong. Raises DiskFull."""
        if not self._pieces.fits(index, data):
            return False
        with disk_errors(self._path):
            os.pwrite(self._file, data, index * PIECE_BYTES)
        self.has |= 1 << index
        return True

    async def listing(self) -> bytes:
        """The wire form of its piece list."""
        return self._pieces.wire

    def read(self, index: int) -> bytes:
        """The bytes of a piece."""
        return os.pread(self._file, piece_length(self.size, index), index * PIECE_BYTES)

    def close(self) -> None:
        """Close the file; what is in it stays."""
        os.close(self._file)


@dataclass
class PieceStore:
    """All pieces that this node can serve."""

    blobs: BlobStore
    _partial: dict[tuple[BlobHash, int, BlobHash], PartialBlob] = field(default_factory=dict)
    """By description."""
    _lists: dict[BlobHash, BlobHash] = field(default_factory=dict)
    """The hashes of the piece lists of whole blobs: each follows from its blob's hash."""

    async def verify(self, name: BlobHash) -> None:
        """Set a whole blob aside that was damaged since it was stored: others would be sent false pieces."""
        await set_damaged_aside(self.blobs, name)

    async def find(self, name: BlobHash, size: int, pieces: BlobHash) -> StoredBlob | PartialBlob | None:
        """What is here of a blob of `size` bytes whose list has this hash. None where a commit that says so
        is false: who serves it has signed, or believed, the same.
        """
        held = self._partial.get((name, size, pieces))
        if held is None and name in self.blobs and self.blobs.size(name) == size:
            is_true = await asyncio.to_thread(self._list_hash, name) == pieces
            return StoredBlob(self.blobs, name, size) if is_true else None
        return held

    def _list_hash(self, name: BlobHash) -> BlobHash:
        """Slow at first."""
        known = self._lists.pop(name, None) or blob_hash(self.blobs.piece_list(name))
        self._lists[name] = known  # now the newest
        if len(self._lists) > MAX_LISTS:
            del self._lists[next(iter(self._lists))]
        return known

    def known_list(self, wanted: Wanted) -> PieceList | None:
        """The piece list that an earlier download left here, if it is the right one."""
        path = self.blobs.claimed_listing(wanted)
        if path.is_file() and file_hash(path) == wanted.pieces:
            return PieceList.opened(path.read_bytes(), wanted)
        return None

    def open_partial(self, wanted: Wanted, pieces: PieceList) -> PartialBlob:
        """Begin a download, and serve what arrives. Raises DiskFull."""
        write_atomic(self.blobs.claimed_listing(wanted), pieces.wire)
        partial = PartialBlob(self.blobs.in_pieces(wanted), wanted, pieces)
        self._partial[wanted.description] = partial
        return partial

    def close_partial(self, wanted: Wanted) -> None:
        """End a download, whole or not: what has arrived stays on disk."""
        self._partial.pop(wanted.description).close()

    def accept(self, wanted: Wanted) -> Path:
        """Check the whole hash of a complete download, and store it. Slow.

        Raises HashMismatch, and Unreachable where the file was removed meanwhile.
        """
        return self.blobs.accept_pieces(wanted)

    def check(self, wanted: Wanted) -> None:
        """Check that a blob that is here is the one that a commit describes. Slow at first.

        Raises HashMismatch where it is of another size or has another piece list: a node that relies on
        the commit could not download it.
        """
        size = self.blobs.size(wanted.blob)
        wire = self.blobs.piece_list(wanted.blob) if size == wanted.size else b""
        PieceList.opened(wire, wanted)
