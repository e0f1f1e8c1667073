"""What strangers may hold of us: streams, counted by peer, and the memory of what was sent to them."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from barnraise.contract.pieces import every_piece
from barnraise.core.ids import BlobHash

log = logging.getLogger("barnraise.swarm")

MAX_STREAMS = 96
"""Streams served at once; beyond it the one that is idle longest makes room."""
MAX_STREAMS_PER_PEER = 8
REMEMBERED = 256
"""Blobs of which it is remembered what was sent, besides those that somebody waits for."""


@dataclass
class IncomingStream:
    """One stream that somebody opened with us."""

    peer: str
    writer: asyncio.StreamWriter
    idle_since: int | None = None
    """When it began to be idle, in counted events; None while it is served."""


@dataclass
class ConnectionLimits:
    _streams: list[IncomingStream] = field(default_factory=list)
    _per_peer: Counter[str] = field(default_factory=Counter)
    _events: Iterator[int] = field(default_factory=itertools.count)

    @contextmanager
    def admitted(self, peer: str, writer: asyncio.StreamWriter) -> Iterator[IncomingStream | None]:
        """Hold a place for a stream as long as the block runs; None where there is none for it."""
        if self._per_peer[peer] >= MAX_STREAMS_PER_PEER or not self._make_room():
            log.debug("no stream for %s: it has %d of %d", peer, self._per_peer[peer], len(self._streams))
            yield None
            return
        stream = IncomingStream(peer, writer)
        self._streams.append(stream)
        self._per_peer[peer] += 1
        try:
            yield stream
        finally:
            self._streams.remove(stream)
            self._per_peer -= Counter([peer])  # drops what comes to zero

    def set_idle(self, stream: IncomingStream, waits: bool) -> None:
        stream.idle_since = next(self._events) if waits else None

    def _make_room(self) -> bool:
        """Whether there is a place, made free where need be."""
        open_streams = [stream for stream in self._streams if not stream.writer.is_closing()]
        if len(open_streams) < MAX_STREAMS:
            return True
        idle = {since: stream for stream in open_streams if (since := stream.idle_since) is not None}
        if not idle:
            return False
        idle[min(idle)].writer.close()
        return True


@dataclass
class _Sent:
    pieces: int = 0
    whole: asyncio.Event = field(default_factory=asyncio.Event)
    watchers: int = 0


@dataclass
class SentPieces:
    """Which pieces of our blobs went out to somebody at least once."""

    _sent: dict[BlobHash, _Sent] = field(default_factory=dict)

    def piece_sent(self, name: BlobHash, index: int, count: int) -> None:
        entry = self._entry(name)
        entry.pieces |= 1 << index
        if entry.pieces == every_piece(count):
            entry.whole.set()

    def all_sent(self, name: BlobHash) -> None:
        self._entry(name).whole.set()

    async def wait(self, name: BlobHash, timeout: float) -> bool:
        """Whether every piece went out within so many seconds."""
        entry = self._entry(name)
        entry.watchers += 1
        try:
            await asyncio.wait_for(entry.whole.wait(), timeout)
        except asyncio.TimeoutError:
            return False
        finally:
            entry.watchers -= 1
        return True

    def _entry(self, name: BlobHash) -> _Sent:
        entry = self._sent.pop(name, None) or _Sent()
        self._sent[name] = entry  # now the newest
        if len(self._sent) > REMEMBERED:
            oldest = next(
                (name for name, old in self._sent.items() if not old.watchers and old is not entry), None
            )
            if oldest is not None:
                del self._sent[oldest]
        return entry
