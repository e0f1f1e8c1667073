"""Blobs between peers: fetched and served, whole or in pieces. No libp2p in here."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from weakref import WeakValueDictionary

from barnraise.contract.pieces import Wanted
from barnraise.core.errors import HashMismatch, MachineError, MalformedBlob, Unreachable
from barnraise.core.ids import BlobHash, PublicKey, short
from barnraise.network.blobs.connection_pool import ConnectionPool
from barnraise.network.blobs.download_context import DownloadContext, in_flight_limit
from barnraise.network.blobs.holder_outcomes import (
    BlobUnavailable,
    HolderOutcome,
    NotHeld,
    Rejected,
    WrongSize,
    connection_failed,
)
from barnraise.network.blobs.piece_download import download_pieces
from barnraise.network.blobs.piece_protocol import PieceServer
from barnraise.network.blobs.piece_store import PieceStore
from barnraise.network.blobs.rate_limiter import Caps, RateLimiter, Traffic
from barnraise.network.blobs.reputation import FaultKind, HolderFault, Reputation
from barnraise.network.blobs.sent_pieces import SentPieces
from barnraise.network.blobs.whole_protocol import (
    BlobNotHere,
    BlobSent,
    Received,
    answer,
    receive,
)
from barnraise.network.peer_guard import PeerGuard
from barnraise.network.stream_limits import IncomingStream, StreamLimits
from barnraise.network.streams import OpenStream, end_stream, until_stalled
from barnraise.network.timing import TIMING, Timing
from barnraise.runtime.blob_store import BlobStore

log = logging.getLogger("barnraise.swarm")

WHOLE_PROTOCOL, PIECE_PROTOCOL = "barnraise/blob/1", "barnraise/pieces/1"
"""Names of the libp2p protocols."""


class Transfer:
    """All blobs that one node receives and serves."""

    def __init__(
        self,
        own: PublicKey,
        blobs: BlobStore,
        caps: Caps,
        open_stream: OpenStream,
        guard: PeerGuard,
        timing: Timing = TIMING,
    ) -> None:
        self.traffic = Traffic()
        self._blobs, self._open, self._timing = blobs, open_stream, timing
        self._up, self._down = RateLimiter(caps.up, timing), RateLimiter(caps.down, timing)
        self._whole, self._pieces, self._sent = StreamLimits(guard), StreamLimits(guard), SentPieces()
        self._store = PieceStore(blobs)
        self._server = PieceServer(self._store, self._up, self.traffic, self._sent.piece_sent, timing)
        pool = ConnectionPool(
            lambda peer: until_stalled(open_stream(peer, PIECE_PROTOCOL), timing),
            self._down,
            self.traffic,
            timing,
        )
        self._context = DownloadContext(
            own, self._store, pool, Reputation(timing), timing, in_flight_limit(caps.down)
        )
        self._fetching: WeakValueDictionary[object, asyncio.Lock] = WeakValueDictionary()

    async def fetch(self, name: BlobHash, limit: int, holders: Sequence[PublicKey]) -> Path:
        """Get a blob of at most `limit` bytes into the store, from the first holder that serves it whole.

        A stream that breaks is resumed, at the next holder where there is one. A holder whose bytes do not
        fit those that are here is asked once more, from the beginning. Raises BlobUnavailable with the
        outcome of each holder.
        """
        async with self._one_at_a_time(name):
            if name not in self._blobs:
                await self._fetch(name, limit, holders)
        return self._blobs.path(name)

    async def fetch_pieces(self, wanted: Wanted, holders: Sequence[PublicKey]) -> Path:
        """Get a blob into the store in pieces, from all of the holders that have some of it.

        holders: who may have it, in any order. What arrived before a stream broke, or before a restart,
        is not fetched again. Raises BlobUnavailable with the outcome of each holder, HashMismatch where
        the commit that describes the blob cannot be true, DiskFull.
        """
        async with self._one_at_a_time(wanted.description):
            if wanted.blob not in self._blobs:
                return await download_pieces(self._context, wanted, holders)
            try:  # it arrived by another commit; others cannot fetch it by this one where that lies about it
                await asyncio.to_thread(self._store.check, wanted)
            except HashMismatch:
                self._context.record(HolderFault(wanted.owner, FaultKind.FALSE_COMMIT))
                raise
            return self._blobs.path(wanted.blob)

    async def wait_served(self, name: BlobHash, timeout: float) -> bool:
        """Whether every piece of a blob is sent to some peer within `timeout` seconds."""
        return await self._sent.wait(name, timeout)

    async def serve(
        self, peer: PublicKey, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Answer the one request of a stream for a whole blob."""
        with self._admitted(self._whole, peer, writer) as stream:
            if stream is None:
                return
            match await answer(self._blobs, reader, writer, self._up, self.traffic, self._timing):
                case BlobSent(name):
                    self._sent.all_sent(name)
                case BlobNotHere(name):
                    log.debug("asked for %s, which is not here", short(name))

    async def serve_pieces(
        self, peer: PublicKey, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Answer the requests of a stream for pieces, until it ends."""
        with self._admitted(self._pieces, peer, writer) as stream:
            if stream is not None:
                await self._server.serve(reader, writer, stream.set_idle)

    def close(self) -> None:
        """End what is under way."""
        self._context.close()

    @contextmanager
    def _admitted(
        self, limits: StreamLimits, peer: PublicKey, writer: asyncio.StreamWriter
    ) -> Iterator[IncomingStream | None]:
        """Hold a slot for an incoming stream, and close it however the block ends."""
        try:
            with limits.admitted(peer, writer) as stream:
                yield stream
        except (OSError, EOFError, asyncio.TimeoutError, MachineError, MalformedBlob) as error:
            log.debug("a blob stream ended early: %s", error)
        finally:
            limits.end(writer)

    def _one_at_a_time(self, what: object) -> asyncio.Lock:
        """Two may ask for one blob. Commits that describe it otherwise do not wait for each other."""
        return self._fetching.setdefault(what, asyncio.Lock())

    async def _fetch(self, name: BlobHash, limit: int, holders: Sequence[PublicKey]) -> None:
        outcomes: dict[PublicKey, HolderOutcome] = {}
        part = self._blobs.partial(name)
        for left, holder in zip(reversed(range(len(holders))), holders, strict=True):
            is_resumed = part.exists()
            outcome = await self._fetch_from(holder, name, limit, is_last=left == 0)
            if is_resumed and _contradicts_part(outcome):
                part.unlink(missing_ok=True)
                outcome = await self._fetch_from(holder, name, limit, is_last=left == 0)
            if isinstance(outcome, Received):
                return
            outcomes[holder] = outcome
        raise BlobUnavailable(name, outcomes)

    async def _fetch_from(
        self, holder: PublicKey, name: BlobHash, limit: int, *, is_last: bool
    ) -> Received | HolderOutcome:
        try:
            outcome = await self._receive(name, limit, holder, is_last=is_last)
            if isinstance(outcome, Received):
                await asyncio.to_thread(self._blobs.accept, name)
            return outcome
        except (Unreachable, HashMismatch) as error:
            return Rejected(error.problem)
        except (OSError, EOFError, asyncio.TimeoutError) as error:
            return connection_failed(error)

    async def _receive(
        self, name: BlobHash, limit: int, holder: PublicKey, *, is_last: bool
    ) -> Received | NotHeld | WrongSize:
        reader, writer = await until_stalled(self._open(holder, WHOLE_PROTOCOL), self._timing)
        try:
            streams = (reader, writer, self._down, self.traffic, self._timing)
            return await receive(name, limit, self._blobs, *streams, is_last=is_last)
        finally:
            end_stream(writer)


def _contradicts_part(outcome: Received | HolderOutcome) -> bool:
    """Whether a holder does not fit what another one sent before it: either may have sent false bytes."""
    match outcome:
        case WrongSize(offered, limit):
            return offered <= limit  # the part is longer
        case Rejected():
            return True
        case _:
            return False
