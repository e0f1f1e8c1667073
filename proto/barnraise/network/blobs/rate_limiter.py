"""Bytes through blob streams: counted, and delayed where there is a cap."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from barnraise.network.blobs.token_bucket import TokenBucket, chunk_bytes
from barnraise.network.timing import TIMING, Timing


@dataclass
class Traffic:
    """Bytes of blobs since the start."""

    up: int = 0
    down: int = 0


class RateLimiter:
    """One direction of all of a node's blob streams. Streams take turns, a chunk each."""

    def __init__(self, rate: int | None, timing: Timing = TIMING) -> None:
        """rate: bytes a second; None for no limit."""
        self._bucket = TokenBucket(rate, timing.rate_burst) if rate is not None else None
        self.chunk = chunk_bytes(rate, timing.rate_chunk)
        """Bytes that a stream moves at a time."""

    async def acquire(self, count: int) -> None:
        """Wait until `count` bytes may pass."""
        if self._bucket is not None:
            await asyncio.sleep(self._bucket.take(count, asyncio.get_running_loop().time()))
