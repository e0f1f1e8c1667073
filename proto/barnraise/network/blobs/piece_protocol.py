"""Pieces of blobs over a stream: any number of requests, answered in their order. No libp2p in here.

    request:  32 bytes SHA-256 of the blob, 8 bytes its size, 4 bytes the piece's index (or HAVE, LIST)
    reply:    1 byte what it is
                NOTHING   none of it is here, or it is of another size
                HAVING    the bitmap of the pieces that are here
                LISTING   the bitmap, and the piece list
                PIECE     the bitmap, and the piece

Numbers are little-endian. The asker knows the size from a signed commit, so the length of every reply
is known before it comes; the answerer holds one request and one piece at a time.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from dataclasses import dataclass

from barnraise.contract.pieces import (
    HASH_BYTES,
    Wanted,
    bitmap,
    bitmap_bytes,
    open_bitmap,
    piece_count,
    piece_length,
)
from barnraise.core.errors import MalformedBlob
from barnraise.core.ids import BlobHash
from barnraise.network.blobs.piece_store import PartialBlob, PieceStore, StoredBlob
from barnraise.network.blobs.rate_limiter import RateLimiter, Traffic
from barnraise.network.blobs.whole_protocol import send, until_stalled

HAVE, LIST = 2**32 - 1, 2**32 - 2
NOTHING, HAVING, LISTING, PIECE = range(4)
IDLE_SECONDS = 120.0
"""An asker may stay silent for this long before its stream is closed."""
PIECE_SECONDS = 120.0
"""The longest that a holder may take over one answer, drop by drop."""
MAX_BLOB_BYTES = 2**40

_REQUEST = struct.Struct("<32sQI")


# The asker's side.


@dataclass(frozen=True)
class NotHeldReply:
    """It holds none of the blob."""


@dataclass(frozen=True)
class HaveReply:
    has: int
    """The pieces it holds, bit by bit."""


@dataclass(frozen=True)
class ListReply:
    has: int
    wire: bytes


@dataclass(frozen=True)
class PieceReply:
    has: int
    data: bytes


Reply = NotHeldReply | HaveReply | ListReply | PieceReply


class PeerConnection:
    """A stream to one holder, for all the blobs that are wanted of it."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        limiter: RateLimiter,
        traffic: Traffic,
    ) -> None:
        self._reader, self._writer, self._limiter, self._traffic = reader, writer, limiter, traffic
        self._turn = asyncio.Lock()
        self._last = 0.0
        self.unanswered = 0
        """Requests without their whole answer."""
        self.scheduled = 0
        """Pieces that whoever gathers over this link has chosen, also those not asked for yet."""
        self.closed = False

    async def ask(self, wanted: Wanted, index: int) -> tuple[Reply, float]:
        """Send a request and read its answer: also the seconds that the holder took over it.

        Raises TimeoutError where it stalls, OSError or EOFError where the stream breaks, MalformedBlob
        where the answer is no answer; the link is closed then.
        """
        if self.closed:
            raise EOFError("the stream was closed")
        asked = self._now()
        self._writer.write(_REQUEST.pack(bytes.fromhex(wanted.blob), wanted.size, index))
        self.unanswered += 1
        answered = False
        try:
            async with self._turn:  # answers come in the order of the requests, and so are they read
                if self.closed:  # by one that went before
                    raise EOFError("the stream was closed")
                began = max(asked, self._last)
                reply = await self._read_reply(wanted, index)
                self._last = self._now()
            answered = True
            return reply, self._last - began
        finally:
            self.unanswered -= 1
            if not answered:  # what is left of the answer would be taken for the next one
                self.close()

    def close(self) -> None:
        self.closed = True
        self._writer.close()

    async def _read_reply(self, wanted: Wanted, index: int) -> Reply:
        kind = (await self._read(1))[0]
        if kind == NOTHING:
            return NotHeldReply()
        if kind not in (HAVING, LISTING, PIECE):
            raise MalformedBlob(f"an answer of kind {kind}", fix="Another holder is asked.")
        has = open_bitmap(await self._read(bitmap_bytes(wanted.count)), wanted.count)
        if kind == LISTING and index == LIST:
            return ListReply(has, await self._read(wanted.count * HASH_BYTES))
        if kind == PIECE and index < wanted.count:
            return PieceReply(has, await self._read(piece_length(wanted.size, index)))
        if kind == HAVING:
            return HaveReply(has)
        raise MalformedBlob("an answer to what was not asked", fix="Another holder is asked.")

    async def _read(self, count: int) -> bytes:
        """Exactly `count` bytes. Our own cap is no fault of the holder's: only its time counts."""
        data, took = bytearray(), 0.0
        while len(data) < count:
            began = self._now()
            chunk = await until_stalled(self._reader.read(min(self._limiter.chunk, count - len(data))))
            took += self._now() - began
            if not chunk:
                raise EOFError(f"the stream ended at {len(data)} of {count} bytes")
            if took > PIECE_SECONDS:
                raise asyncio.TimeoutError(f"{len(data)} of {count} bytes in {took:.0f} s")
            data += chunk
            self._traffic.down += len(chunk)
            await self._limiter.acquire(len(chunk))
        return bytes(data)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


# The holder's side.


@dataclass(frozen=True)
class Request:
    blob: BlobHash
    size: int
    index: int


def open_request(wire: bytes) -> Request:
    """Raises MalformedBlob where it asks for what no blob has."""
    name, size, index = _REQUEST.unpack(wire)
    if not 0 < size <= MAX_BLOB_BYTES or not (index < piece_count(size) or index in (HAVE, LIST)):
        raise MalformedBlob(f"a request for piece {index} of {size} bytes", fix="The stream is closed.")
    return Request(BlobHash(name.hex()), size, index)


@dataclass
class PieceServer:
    """Answers the requests of one stream after the other, or of many side by side."""

    holdings: PieceStore
    limiter: RateLimiter
    traffic: Traffic
    sent: Callable[[BlobHash, int, int], None]
    """Told of each piece that went out: blob, index, count of its pieces."""

    async def serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, idle: Callable[[bool], None]
    ) -> None:
        """Until the asker ends the stream or stays silent; `idle` is told whenever it waits or works.

        Raises OSError or TimeoutError when the stream breaks, MalformedBlob on what is no request.
        """
        while True:
            idle(True)
            try:
                wire = await asyncio.wait_for(reader.readexactly(_REQUEST.size), IDLE_SECONDS)
            except (asyncio.IncompleteReadError, asyncio.TimeoutError):
                return
            idle(False)
            await self._answer(open_request(wire), writer)

    async def _answer(self, request: Request, writer: asyncio.StreamWriter) -> None:
        held = self.holdings.find(request.blob, request.size)
        if held is None:
            await self._send(writer, bytes([NOTHING]))
        elif request.index == LIST:
            wire = await held.listing()
            await self._send(writer, _head(LISTING, held) + wire)
        elif request.index == HAVE or not held.has >> request.index & 1:
            await self._send(writer, _head(HAVING, held))
        else:
            piece = held.read(request.index)
            await self._send(writer, _head(PIECE, held) + piece)
            self.sent(request.blob, request.index, piece_count(request.size))

    async def _send(self, writer: asyncio.StreamWriter, reply: bytes) -> None:
        view = memoryview(reply)
        for start in range(0, len(reply), self.limiter.chunk):
            await send(writer, view[start : start + self.limiter.chunk], self.limiter, self.traffic)


def _head(kind: int, held: StoredBlob | PartialBlob) -> bytes:
    return bytes([kind]) + bitmap(held.has, piece_count(held.size))
