"""Pieces of blobs over a stream: any number of requests, answered in their order. No libp2p in here.

    request:  32 bytes SHA-256 of the blob, 8 bytes its size, 32 bytes SHA-256 of its piece list,
              4 bytes the piece's index (or HAVE, LIST)
    reply:    1 byte its kind
                NOTHING   none of it is here, or it is of another size, or has another piece list
                HAVING    the bitmap of the pieces that are here
                LISTING   the bitmap, and the piece list
                PIECE     the bitmap, and the piece

Numbers are little-endian. The asker knows the size and the list's hash from a signed commit, so the length of
every reply is known before it arrives; the holder keeps one request and one piece in memory at a time. A
holder that has another blob than a false commit describes has nothing of it. So what a holder serves fits the
list that it is asked by, or the fault is the holder's.
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
from barnraise.network.blobs.whole_protocol import send
from barnraise.network.streams import end_stream, now, until_stalled
from barnraise.network.timing import TIMING, Timing

HAVE, LIST = 2**32 - 1, 2**32 - 2
NOTHING, HAVING, LISTING, PIECE = range(4)
MAX_BLOB_BYTES = 2**40

_REQUEST = struct.Struct("<32sQ32sI")
REQUEST_BYTES = _REQUEST.size


@dataclass(frozen=True)
class Request:
    """One request, as it is sent."""

    blob: BlobHash
    size: int
    """Bytes of the whole blob."""
    pieces: BlobHash
    """SHA-256 of its piece list."""
    index: int
    """Of the piece, or HAVE, or LIST."""

    @property
    def wire(self) -> bytes:
        """The bytes to send."""
        blob, pieces = bytes.fromhex(self.blob), bytes.fromhex(self.pieces)
        return _REQUEST.pack(blob, self.size, pieces, self.index)


def open_request(wire: bytes) -> Request:
    """Raises MalformedBlob where it asks for what no blob has."""
    name, size, pieces, index = _REQUEST.unpack(wire)
    if not 0 < size <= MAX_BLOB_BYTES or not (index < piece_count(size) or index in (HAVE, LIST)):
        raise MalformedBlob(f"a request for piece {index} of {size} bytes", fix="The stream is closed.")
    return Request(BlobHash(name.hex()), size, BlobHash(pieces.hex()), index)


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


# The asker's side


class PeerConnection:
    """A stream to one holder, for all the blobs that are requested from it."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        limiter: RateLimiter,
        traffic: Traffic,
        timing: Timing = TIMING,
    ) -> None:
        self._reader, self._writer = reader, writer
        self._limiter, self._traffic, self._timing = limiter, traffic, timing
        self._turn = asyncio.Lock()
        self._last_answer = 0.0
        self.unanswered = 0
        """Requests whose answer has not arrived in full."""
        self.scheduled = 0
        """Pieces that downloads have chosen to request from this holder, sent or not."""
        self.closed = False

    def schedule(self) -> None:
        """Count a piece as chosen, until `unschedule`."""
        self.scheduled += 1

    def unschedule(self) -> None:
        """A chosen piece has arrived, or will not."""
        self.scheduled -= 1

    async def ask(self, wanted: Wanted, index: int) -> tuple[Reply, float]:
        """Send a request and read its answer. Also returns the seconds that the holder took over it.

        Raises TimeoutError where it stalls, OSError or EOFError where the stream breaks, MalformedBlob
        where the answer breaks the protocol; the connection is closed then.
        """
        if self.closed:
            raise EOFError("the stream was closed")
        sent = now()
        self._writer.write(Request(wanted.blob, wanted.size, wanted.pieces, index).wire)
        self.unanswered += 1
        answered = False
        try:
            async with self._turn:  # answers arrive in the order of the requests
                if self.closed:  # by an earlier request
                    raise EOFError("the stream was closed")
                began = max(sent, self._last_answer)
                reply = await self._read_reply(wanted, index)
                self._last_answer = now()
            answered = True
            return reply, self._last_answer - began
        finally:
            self.unanswered -= 1
            if not answered:  # the rest of the answer would be read as the next one
                self.close()

    def close(self) -> None:
        """Close the stream; requests that wait for their answer fail."""
        self.closed = True
        end_stream(self._writer)

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
        raise MalformedBlob("an answer to another request", fix="Another holder is asked.")

    async def _read(self, count: int) -> bytes:
        """Exactly `count` bytes. Only the holder's time counts as its own, not that of our rate limit."""
        data, took = bytearray(), 0.0
        while len(data) < count:
            began = now()
            chunk = await until_stalled(
                self._reader.read(min(self._limiter.chunk, count - len(data))), self._timing
            )
            took += now() - began
            if not chunk:
                raise EOFError(f"the stream ended at {len(data)} of {count} bytes")
            if took > self._timing.piece:
                raise asyncio.TimeoutError(f"{len(data)} of {count} bytes in {took:.0f} s")
            data += chunk
            self._traffic.down += len(chunk)
            await self._limiter.acquire(len(chunk))
        return bytes(data)


# The holder's side


@dataclass
class PieceServer:
    """Answers one stream, or many at the same time."""

    store: PieceStore
    limiter: RateLimiter
    traffic: Traffic
    sent: Callable[[BlobHash, int, int], None]
    """Called for each piece that was sent: blob, index, count of its pieces."""
    timing: Timing = TIMING

    async def serve(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        set_idle: Callable[[bool], None],
    ) -> None:
        """Serve a stream until the asker ends it or stays silent.

        set_idle: called with True before each wait for a request, with False before each answer.
        Raises OSError or TimeoutError when the stream breaks, MalformedBlob on what is no request.
        """
        while True:
            set_idle(True)
            try:
                wire = await asyncio.wait_for(reader.readexactly(REQUEST_BYTES), self.timing.idle)
            except (asyncio.IncompleteReadError, asyncio.TimeoutError):
                return
            set_idle(False)
            await self._answer(open_request(wire), writer)

    async def _answer(self, request: Request, writer: asyncio.StreamWriter) -> None:
        await self.store.verify(request.blob)
        held = await self.store.find(request.blob, request.size, request.pieces)
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
            chunk = view[start : start + self.limiter.chunk]
            await send(writer, chunk, self.limiter.acquire, self.traffic, self.timing)


def _head(kind: int, held: StoredBlob | PartialBlob) -> bytes:
    return bytes([kind]) + bitmap(held.has, piece_count(held.size))
