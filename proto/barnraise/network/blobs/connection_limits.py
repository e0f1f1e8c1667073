"""What strangers may use of this node: streams, counted by peer, and memory of what was sent."""

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
"""Streams served at once; a new one evicts the one that is idle longest."""
MAX_STREAMS_PER_PEER = 8
REMEMBERED = 256
"""Blobs of which it is remembered what was sent, on top of those that a caller waits for."""


@dataclass
class IncomingStream:
    """One stream that a peer opened with this node."""

    peer: str
    writer: asyncio.StreamWriter
    idle_since: int | None = None
    """When it became idle, in counted events; None while it is served."""


@dataclass
class ConnectionLimits:
    """Admits incoming streams up to MAX_STREAMS, and MAX_STREAMS_PER_PEER."""

    _streams: list[IncomingStream] = field(default_factory=list)
    _per_peer: Counter[str] = field(default_factory=Counter)
    _events: Iterator[int] = field(default_factory=itertools.count)

    @contextmanager
    def admitted(self, peer: str, writer: asyncio.StreamWriter) -> Iterator[IncomingStream | None]:
        """Hold a slot for a stream while the block runs; None where no slot is free."""
        if self._per_peer[peer] >= MAX_STREAMS_PER_PEER or not self._free_slot():
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

    def set_idle(self, stream: IncomingStream, idle: bool) -> None:
        """Whether a stream waits for its peer, and may be evicted."""
        stream.idle_since = next(self._events) if idle else None

    def _free_slot(self) -> bool:
        """Whether there is a free slot, after an eviction if need be."""
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
    """Which pieces of our blobs were sent to some peer at least once."""

    _sent: dict[BlobHash, _Sent] = field(default_factory=dict)

    def piece_sent(self, name: BlobHash, index: int, count: int) -> None:
        """A piece of a blob of `count` pieces was sent."""
        entry = self._entry(name)
        entry.pieces |= 1 << index
        if entry.pieces == every_piece(count):
            entry.whole.set()

    def all_sent(self, name: BlobHash) -> None:
        """A whole blob was sent."""
        self._entry(name).whole.set()

    async def wait(self, name: BlobHash, timeout: float) -> bool:
        """Whether every piece is sent within `timeout` seconds."""
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
