"""Which pieces of the node's blobs were sent to others."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from barnraise.contract.pieces import every_piece
from barnraise.core.ids import BlobHash

REMEMBERED = 256
"""Blobs of which it is remembered what was sent, on top of those that a caller waits for."""


@dataclass
class _Sent:
    pieces: int = 0
    whole: asyncio.Event = field(default_factory=asyncio.Event)
    watchers: int = 0


@dataclass
class SentPieces:
    """Which pieces of stored blobs were sent to some peer at least once."""

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
