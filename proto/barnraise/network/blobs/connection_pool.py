"""The streams to holders of pieces, one each, shared by all that is gathered at the same time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from barnraise.core.ids import PublicKey
from barnraise.network.blobs.piece_protocol import Link
from barnraise.network.blobs.rate_limiter import Traffic, Valve

Dial = Callable[[PublicKey], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]
"""Opens a stream to a peer. Raises OSError, EOFError or TimeoutError."""


@dataclass
class Links:
    dial: Dial
    valve: Valve
    traffic: Traffic
    _opening: dict[PublicKey, asyncio.Task[Link]] = field(default_factory=dict)
    _users: Counter[PublicKey] = field(default_factory=Counter)

    async def hold(self, holder: PublicKey) -> Link:
        """A stream to a holder, until `release`. Raises what `dial` raises; it is not held then."""
        self._users[holder] += 1
        opening = self._opening.get(holder)
        if opening is None or _of_no_use(opening):
            opening = self._opening[holder] = asyncio.create_task(self._open(holder))
        held = False
        try:
            link = await asyncio.shield(opening)  # others may wait for it too
            held = True
            return link
        finally:
            if not held:
                self.release(holder)

    def release(self, holder: PublicKey) -> None:
        self._users -= Counter([holder])  # drops what comes to zero
        self.tidy(holder)

    def tidy(self, holder: PublicKey) -> None:
        """Close the stream once nobody uses it and every answer was read."""
        opening = self._opening.get(holder)
        if opening is None or self._users[holder]:
            return
        if not opening.done():
            opening.cancel()
        elif not _of_no_use(opening) and opening.result().waiting:
            return
        elif not _of_no_use(opening):
            opening.result().close()
        del self._opening[holder]

    def close(self) -> None:
        for opening in self._opening.values():
            opening.cancel()
            if not _of_no_use(opening) and opening.done():
                opening.result().close()
        self._opening.clear()

    async def _open(self, holder: PublicKey) -> Link:
        reader, writer = await self.dial(holder)
        return Link(reader, writer, self.valve, self.traffic)


def _of_no_use(opening: asyncio.Task[Link]) -> bool:
    if not opening.done():
        return False
    return opening.cancelled() or opening.exception() is not None or opening.result().closed
