"""Which incoming streams of one protocol are served. Admitted keys come first.

Keys of strangers are free: a program makes any number of them. They share places of their own, and give them
up to admitted keys. Of these the trusted ones come first, and leave some places to the others. Among equals
the key with the fewest streams comes first, and a stream that takes long ends before one that has just begun.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from barnraise.core.ids import PublicKey
from barnraise.network.key_access import Access
from barnraise.network.key_rates import KeyRates, Rate, Verdict
from barnraise.network.peer_guard import PeerGuard
from barnraise.network.streams import end_stream, now

log = logging.getLogger("barnraise.swarm")

MAX_STREAMS = 96
"""Streams of one protocol that are served at once."""
MAX_STRANGERS = 32
"""Of them, those of strangers."""
LEFT_TO_ADMITTED = 32
"""Of them, those that trusted keys leave to other admitted ones."""
MAX_PER_KEY = {Access.STRANGER: 4, Access.ADMITTED: 8, Access.TRUSTED: 8, Access.RUN: 16}
LONG_SECONDS = 20.0
"""A stream that is served for longer gives way to an equal: a piece of 256 KiB takes this long at 13 kB/s."""

PARKED_SECONDS = 15.0
"""A key that goes on after refusals waits for this long for each further one. Ended at once, it would open
the next stream at once, and each costs a millisecond here; libp2p lets a peer have some 256 at a time."""
MAX_PARKED_PER_KEY, MAX_PARKED = 64, 512
"""Streams that wait so. A key with more is disconnected."""
_REFUSALS = {Access.STRANGER: Rate(1, 10), Access.ADMITTED: Rate(2, 50), Access.TRUSTED: Rate(2, 50)}
_MESSAGES = {Access.STRANGER: Rate(2, 20), Access.ADMITTED: Rate(30, 300), Access.TRUSTED: Rate(30, 300)}
"""A volunteer forwards each contribution of a round at its end, and each head."""
_TOGETHER = {Access.STRANGER: Rate(30, 120), Access.ADMITTED: Rate(300, 1500)}
"""A round of 32 contributions has some 200 messages for each node, all heartbeats together 20 a second."""


def message_rates() -> KeyRates:
    """How many streams with one message each a key may open."""
    return KeyRates(_MESSAGES, _TOGETHER)


def refusal_rates() -> KeyRates:
    """How many refusals of a key take no time."""
    return KeyRates(_REFUSALS, together={})


@dataclass
class IncomingStream:
    """One stream that a peer opened with this node."""

    peer: PublicKey
    access: Access
    writer: asyncio.StreamWriter
    since: float
    """When it began to be idle, or to be served."""
    idle: bool = False
    """Whether it waits for its peer."""

    def set_idle(self, idle: bool) -> None:
        """Whether it waits for its peer from now on, and may be ended for another one."""
        self.idle, self.since = idle, now()


@dataclass
class StreamLimits:
    """Admits incoming streams of one protocol."""

    guard: PeerGuard
    rates: KeyRates | None = None
    """Of the streams that a key opens, where each costs as much as the next."""
    _streams: list[IncomingStream] = field(default_factory=list)
    _parked: dict[asyncio.StreamWriter, PublicKey] = field(default_factory=dict)
    _refusals: KeyRates = field(default_factory=refusal_rates)

    @contextmanager
    def admitted(self, peer: PublicKey, writer: asyncio.StreamWriter) -> Iterator[IncomingStream | None]:
        """Hold a place for a stream while the block runs; None where it has none."""
        access = self.guard.access(peer)
        if not self._is_admitted(peer, access, writer):
            log.debug("no stream for %s, of %d", peer, len(self._streams))
            yield None
            return
        stream = IncomingStream(peer, access, writer, now())
        self._streams.append(stream)
        try:
            yield stream
        finally:
            self._streams.remove(stream)

    def end(self, writer: asyncio.StreamWriter) -> None:
        """End a stream, at once unless its peer has to wait."""
        if writer in self._parked:
            asyncio.get_running_loop().call_later(PARKED_SECONDS, self._end_parked, writer)
        else:
            end_stream(writer)

    def _end_parked(self, writer: asyncio.StreamWriter) -> None:
        del self._parked[writer]
        end_stream(writer)

    def _park(self, peer: PublicKey, writer: asyncio.StreamWriter) -> None:
        """Have a peer that was refused too often wait."""
        own = sum(each == peer for each in self._parked.values())
        if own < MAX_PARKED_PER_KEY and len(self._parked) < MAX_PARKED:
            self._parked[writer] = peer
        else:
            self.guard.flooded(peer)

    def _is_admitted(self, peer: PublicKey, access: Access, writer: asyncio.StreamWriter) -> bool:
        if access is Access.BANNED:
            self.guard.flooded(peer)
            return False
        rate = Verdict.ALLOWED if self.rates is None else self.rates.take(peer, access, now())
        if rate is Verdict.ALLOWED and self._make_room(peer, access):
            return True
        if self._refusals.take(peer, access, now()) is not Verdict.ALLOWED:
            self._park(peer, writer)
        return False

    def _make_room(self, peer: PublicKey, access: Access) -> bool:
        """Whether there is a place, after another stream ended if need be."""
        streams = [stream for stream in self._streams if not stream.writer.is_closing()]
        held = Counter(stream.peer for stream in streams)
        if held[peer] >= MAX_PER_KEY[access]:
            return False
        strangers = sum(stream.access is Access.STRANGER for stream in streams)
        if len(streams) < MAX_STREAMS and (access is not Access.STRANGER or strangers < MAX_STRANGERS):
            return True
        ended = stream_to_end(streams, held, peer, access, now())
        if ended is None:
            return False
        end_stream(ended.writer)
        return True


def stream_to_end(
    streams: list[IncomingStream], held: Counter[PublicKey], peer: PublicKey, access: Access, now: float
) -> IncomingStream | None:
    """The stream that gives way to one more of `peer`. None where all come before it.

    held: the streams of each key.
    """

    admitted = sum(stream.access is Access.ADMITTED for stream in streams)

    def gives_way(stream: IncomingStream) -> bool:
        if (stream.access, access) == (Access.ADMITTED, Access.TRUSTED):
            return admitted > LEFT_TO_ADMITTED
        if (stream.access, access) == (Access.TRUSTED, Access.ADMITTED):
            return admitted < LEFT_TO_ADMITTED
        if stream.access is not access:
            return stream.access < access
        if held[stream.peer] > held[peer] + 1 or now - stream.since > LONG_SECONDS:
            return True
        return stream.idle and not held[peer]  # keys that have some would take turns at it without end

    def order(stream: IncomingStream) -> tuple[Access, bool, int, float]:
        return stream.access, not stream.idle, -held[stream.peer], stream.since

    return min(filter(gives_way, streams), key=order, default=None)
