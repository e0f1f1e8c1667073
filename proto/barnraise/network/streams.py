"""Streams between nodes: opening one, its timeout, and limits on incoming ones."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from barnraise.core.ids import PublicKey
from barnraise.network.timing import TIMING, Timing

log = logging.getLogger("barnraise.swarm")

MAX_STREAMS = 96
"""Streams served at once; a new one evicts the one that is idle longest."""
MAX_STREAMS_PER_PEER = 8

V = TypeVar("V")
Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]
OpenStream = Callable[[PublicKey, str], Awaitable[Stream]]
"""Opens a stream to a peer, of a protocol. Raises OSError, EOFError or TimeoutError."""


def now() -> float:
    """Seconds of the event loop's clock."""
    return asyncio.get_running_loop().time()


async def until_stalled(step: Awaitable[V], timing: Timing = TIMING) -> V:
    """The result of one step of a stream. Raises TimeoutError after `timing.stall`."""
    return await asyncio.wait_for(step, timing.stall)


@dataclass
class IncomingStream:
    """One stream that a peer opened with this node."""

    peer: str
    writer: asyncio.StreamWriter
    idle_since: int | None = None
    """When it became idle, in counted events; None while it is served."""


@dataclass
class StreamLimits:
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
            self._per_peer -= Counter([peer])  # removes zero counts

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
