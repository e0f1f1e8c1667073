"""A stream to one holder: requests for pieces are sent at once, and their answers read in order."""

from __future__ import annotations

import asyncio

from barnraise.contract.pieces import HASH_BYTES, Wanted, bitmap_bytes, open_bitmap, piece_length
from barnraise.core.errors import MalformedBlob
from barnraise.network.blobs.piece_protocol import (
    HAVING,
    LIST,
    LISTING,
    NOTHING,
    PIECE,
    HaveReply,
    ListReply,
    NotHeldReply,
    PieceReply,
    Reply,
    Request,
)
from barnraise.network.blobs.rate_limiter import RateLimiter, Traffic
from barnraise.network.blobs.whole_protocol import until_stalled
from barnraise.network.timing import TIMING, Timing


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
        sent = self._now()
        self._writer.write(Request(wanted.blob, wanted.size, index).wire)
        self.unanswered += 1
        answered = False
        try:
            async with self._turn:  # answers arrive in the order of the requests
                if self.closed:  # by an earlier request
                    raise EOFError("the stream was closed")
                began = max(sent, self._last_answer)
                reply = await self._read_reply(wanted, index)
                self._last_answer = self._now()
            answered = True
            return reply, self._last_answer - began
        finally:
            self.unanswered -= 1
            if not answered:  # the rest of the answer would be read as the next one
                self.close()

    def close(self) -> None:
        """Close the stream; requests that wait for their answer fail."""
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
        raise MalformedBlob("an answer to another request", fix="Another holder is asked.")

    async def _read(self, count: int) -> bytes:
        """Exactly `count` bytes. Only the holder's time counts as its own, not that of our rate limit."""
        data, took = bytearray(), 0.0
        while len(data) < count:
            began = self._now()
            chunk = await until_stalled(
                self._reader.read(min(self._limiter.chunk, count - len(data))), self._timing
            )
            took += self._now() - began
            if not chunk:
                raise EOFError(f"the stream ended at {len(data)} of {count} bytes")
            if took > self._timing.piece:
                raise asyncio.TimeoutError(f"{len(data)} of {count} bytes in {took:.0f} s")
            data += chunk
            self._traffic.down += len(chunk)
            await self._limiter.acquire(len(chunk))
        return bytes(data)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
