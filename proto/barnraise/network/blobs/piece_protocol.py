"""Pieces of blobs over a stream: any number of requests, answered in their order. No libp2p in here.

    request:  32 bytes SHA-256 of the blob, 8 bytes its size, 4 bytes the piece's index (or HAVE, LIST)
    reply:    1 byte its kind
                NOTHING   none of it is here, or it is of another size
                HAVING    the bitmap of the pieces that are here
                LISTING   the bitmap, and the piece list
                PIECE     the bitmap, and the piece

Numbers are little-endian. The asker knows the size from a signed commit, so the length of every reply
is known before it arrives; the holder keeps one request and one piece in memory at a time.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from barnraise.contract.pieces import piece_count
from barnraise.core.errors import MalformedBlob
from barnraise.core.ids import BlobHash

HAVE, LIST = 2**32 - 1, 2**32 - 2
NOTHING, HAVING, LISTING, PIECE = range(4)
MAX_BLOB_BYTES = 2**40

_REQUEST = struct.Struct("<32sQI")
REQUEST_BYTES = _REQUEST.size


@dataclass(frozen=True)
class Request:
    """One request, as it is sent."""

    blob: BlobHash
    size: int
    """Bytes of the whole blob."""
    index: int
    """Of the piece, or HAVE, or LIST."""

    @property
    def wire(self) -> bytes:
        """The bytes to send."""
        return _REQUEST.pack(bytes.fromhex(self.blob), self.size, self.index)


def open_request(wire: bytes) -> Request:
    """Raises MalformedBlob where it asks for what no blob has."""
    name, size, index = _REQUEST.unpack(wire)
    if not 0 < size <= MAX_BLOB_BYTES or not (index < piece_count(size) or index in (HAVE, LIST)):
        raise MalformedBlob(f"a request for piece {index} of {size} bytes", fix="The stream is closed.")
    return Request(BlobHash(name.hex()), size, index)


@dataclass(frozen=True)
class NotHeldReply:
    """The holder has none of the blob."""


@dataclass(frozen=True)
class HaveReply:
    """What the holder has."""

    has: int
    """The pieces that it holds, bit by bit."""


@dataclass(frozen=True)
class ListReply:
    """The piece list, unchecked."""

    has: int
    wire: bytes


@dataclass(frozen=True)
class PieceReply:
    """A piece, unchecked."""

    has: int
    data: bytes


Reply = NotHeldReply | HaveReply | ListReply | PieceReply
