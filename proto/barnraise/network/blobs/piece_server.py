"""The holder's side of the piece protocol: answers the requests of a stream in their order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from barnraise.contract.pieces import bitmap, piece_count
from barnraise.core.ids import BlobHash
from barnraise.network.blobs.piece_protocol import (
    HAVE,
    HAVING,
    LIST,
    LISTING,
    NOTHING,
    PIECE,
    REQUEST_BYTES,
    Request,
    open_request,
)
from barnraise.network.blobs.piece_store import PartialBlob, PieceStore, StoredBlob
from barnraise.network.blobs.rate_limiter import RateLimiter, Traffic
from barnraise.network.blobs.whole_protocol import send
from barnraise.network.timing import TIMING, Timing


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
        held = self.store.find(request.blob, request.size)
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
            await send(writer, chunk, self.limiter, self.traffic, self.timing)


def _head(kind: int, held: StoredBlob | PartialBlob) -> bytes:
    return bytes([kind]) + bitmap(held.has, piece_count(held.size))
