"""What goes through the blob streams: counted, and held back where there is a cap."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from barnraise.network.blobs.token_bucket import TokenBucket, chunk_bytes


@dataclass
class Traffic:
    """Bytes of blobs since the start."""

    up: int = 0
    down: int = 0


class RateLimiter:
    """One direction of all of a node's blob streams. Streams take turns, a chunk each."""

    def __init__(self, rate: int | None) -> None:
        """rate: bytes a second; None for no cap."""
        self._bucket = TokenBucket(rate) if rate is not None else None
        self.rate = rate
        self.chunk = chunk_bytes(rate)
        """Bytes that a stream moves at a time."""

    async def acquire(self, count: int) -> None:
        """Wait until `count` bytes may pass."""
        if self._bucket is not None:
            await asyncio.sleep(self._bucket.take(count, asyncio.get_running_loop().time()))
