"""The streams to holders of pieces, one each, shared by all that is gathered at the same time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from barnraise.core.ids import PublicKey
from barnraise.network.blobs.piece_protocol import PeerConnection
from barnraise.network.blobs.rate_limiter import RateLimiter, Traffic

Dial = Callable[[PublicKey], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]
"""Opens a stream to a peer. Raises OSError, EOFError or TimeoutError."""


@dataclass
class ConnectionPool:
    dial: Dial
    limiter: RateLimiter
    traffic: Traffic
    _opening: dict[PublicKey, asyncio.Task[PeerConnection]] = field(default_factory=dict)
    _users: Counter[PublicKey] = field(default_factory=Counter)

    async def acquire(self, holder: PublicKey) -> PeerConnection:
        """A stream to a holder, until `release`. Raises what `dial` raises; it is not held then."""
        self._users[holder] += 1
        opening = self._opening.get(holder)
        if opening is None or _is_dead(opening):
            opening = self._opening[holder] = asyncio.create_task(self._open(holder))
        held = False
        try:
            connection = await asyncio.shield(opening)  # others may wait for it too
            held = True
            return connection
        finally:
            if not held:
                self.release(holder)

    def release(self, holder: PublicKey) -> None:
        self._users -= Counter([holder])  # drops what comes to zero
        self.close_if_unused(holder)

    def close_if_unused(self, holder: PublicKey) -> None:
        """Close the stream once nobody uses it and every answer was read."""
        opening = self._opening.get(holder)
        if opening is None or self._users[holder]:
            return
        if not opening.done():
            opening.cancel()
        elif not _is_dead(opening) and opening.result().unanswered:
            return
        elif not _is_dead(opening):
            opening.result().close()
        del self._opening[holder]

    def close(self) -> None:
        for opening in self._opening.values():
            opening.cancel()
            if not _is_dead(opening) and opening.done():
                opening.result().close()
        self._opening.clear()

    async def _open(self, holder: PublicKey) -> PeerConnection:
        reader, writer = await self.dial(holder)
        return PeerConnection(reader, writer, self.limiter, self.traffic)


def _is_dead(opening: asyncio.Task[PeerConnection]) -> bool:
    if not opening.done():
        return False
    return opening.cancelled() or opening.exception() is not None or opening.result().closed
