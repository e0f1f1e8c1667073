"""A blob in pieces: each piece has its own hash, so that it can come from any peer and be checked on arrival.

A contribution's commit names the SHA-256 of its piece list, which is the concatenation of the SHA-256 of
every piece. The pieces that a peer has are an int: bit i is piece i.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from barnraise.core.errors import HashMismatch, MalformedBlob
from barnraise.core.ids import BlobHash, PublicKey, blob_hash, short

PIECE_BYTES = 256 * 1024
"""0.1 s at 20 Mbit/s: little is lost when a stream breaks, and the list is 1/8192 of the blob."""
HASH_BYTES = 32


@dataclass(frozen=True)
class Wanted:
    """A blob to download, as a signed commit describes it."""

    blob: BlobHash
    size: int
    """Bytes."""
    pieces: BlobHash
    """SHA-256 of the piece list."""
    owner: PublicKey
    """The peer that made it, whose uplink other holders relieve."""

    @property
    def count(self) -> int:
        return piece_count(self.size)

    @property
    def description(self) -> tuple[BlobHash, int, BlobHash]:
        """What a commit says of the blob, by any signer."""
        return self.blob, self.size, self.pieces


def piece_count(size: int) -> int:
    return -(-size // PIECE_BYTES)


def piece_length(size: int, index: int) -> int:
    """Bytes of a piece: only the last may be shorter."""
    return min(PIECE_BYTES, size - index * PIECE_BYTES)


def every_piece(count: int) -> int:
    return (1 << count) - 1


def piece_list(data: bytes | bytearray | memoryview) -> bytes:
    """The piece list of a blob: 32 bytes a piece."""
    view = memoryview(data)
    return b"".join(
        hashlib.sha256(view[start : start + PIECE_BYTES]).digest()
        for start in range(0, len(view), PIECE_BYTES)
    )


def pieces_hash(data: bytes | bytearray | memoryview) -> BlobHash:
    """The value of `Commit.pieces` for a blob."""
    return blob_hash(piece_list(data))


@dataclass(frozen=True)
class PieceList:
    """The checked hashes of a blob's pieces."""

    wire: bytes

    @classmethod
    def opened(cls, wire: bytes, wanted: Wanted) -> PieceList:
        """Raises HashMismatch unless it is the list that the commit names."""
        found = blob_hash(wire)
        if found != wanted.pieces or len(wire) != HASH_BYTES * wanted.count:
            raise HashMismatch(
                f"a piece list of {short(wanted.blob)} has {len(wire)} bytes that hash to {short(found)},"
                f" not {HASH_BYTES * wanted.count} that hash to {short(wanted.pieces)}",
                fix="It is dropped; another holder is tried.",
            )
        return cls(wire)

    def fits(self, index: int, data: bytes | bytearray) -> bool:
        """Whether `data` is the piece `index`."""
        return hashlib.sha256(data).digest() == self.wire[index * HASH_BYTES : (index + 1) * HASH_BYTES]


def bitmap_bytes(count: int) -> int:
    return -(-count // 8)


def bitmap(has: int, count: int) -> bytes:
    """The wire form of the pieces that a peer has: piece i is bit i % 8, lowest first, of byte i // 8."""
    return has.to_bytes(bitmap_bytes(count), "little")


def open_bitmap(wire: bytes, count: int) -> int:
    """Raises MalformedBlob where it names pieces after the end of the blob."""
    has = int.from_bytes(wire, "little")
    if len(wire) != bitmap_bytes(count) or has > every_piece(count):
        raise MalformedBlob(
            f"a bitmap of {len(wire)} bytes that names pieces beyond {count}", fix="Another holder is tried."
        )
    return has
