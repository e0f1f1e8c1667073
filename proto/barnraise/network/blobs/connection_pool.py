"""One connection to each holder of pieces, shared by all downloads."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from barnraise.core.ids import PublicKey
from barnraise.network.blobs.piece_protocol import PeerConnection
from barnraise.network.blobs.rate_limiter import RateLimiter, Traffic
from barnraise.network.streams import Stream
from barnraise.network.timing import TIMING, Timing

Dial = Callable[[PublicKey], Awaitable[Stream]]
"""Opens a stream to a peer. Raises OSError, EOFError or TimeoutError."""


@dataclass
class ConnectionPool:
    """Opens a connection for its first user and closes it after its last."""

    dial: Dial
    limiter: RateLimiter
    traffic: Traffic
    timing: Timing = TIMING
    _opening: dict[PublicKey, asyncio.Task[PeerConnection]] = field(default_factory=dict)
    _users: Counter[PublicKey] = field(default_factory=Counter)

    async def acquire(self, holder: PublicKey) -> PeerConnection:
        """The connection to a holder, in use until `release`. Raises what `dial` raises, without a use."""
        self._users[holder] += 1
        opening = self._opening.get(holder)
        if opening is None or _is_dead(opening):
            opening = self._opening[holder] = asyncio.create_task(self._open(holder))
        acquired = False
        try:
            connection = await asyncio.shield(opening)  # others may wait for it too
            acquired = True
            return connection
        finally:
            if not acquired:
                self.release(holder)

    def release(self, holder: PublicKey) -> None:
        """End one use of a connection."""
        self._users -= Counter([holder])  # removes zero counts
        self.close_if_unused(holder)

    def close_if_unused(self, holder: PublicKey) -> None:
        """Close the connection if it has no user and every answer was read."""
        opening = self._opening.get(holder)
        if opening is None or self._users[holder]:
            return
        if not opening.done():
            opening.cancel()
        elif not _is_dead(opening):
            connection = opening.result()
            if connection.unanswered:
                return
            connection.close()
        del self._opening[holder]

    def close(self) -> None:
        """Close all connections."""
        for opening in self._opening.values():
            opening.cancel()
            if not _is_dead(opening) and opening.done():
                opening.result().close()
        self._opening.clear()

    async def _open(self, holder: PublicKey) -> PeerConnection:
        reader, writer = await self.dial(holder)
        return PeerConnection(reader, writer, self.limiter, self.traffic, self.timing)


def _is_dead(opening: asyncio.Task[PeerConnection]) -> bool:
    if not opening.done():
        return False
    return opening.cancelled() or opening.exception() is not None or opening.result().closed
