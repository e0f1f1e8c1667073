"""A file as an ASGI response: read in threads, in chunks that adapt to the speed of its reader."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from starlette.types import Receive, Scope, Send

from barnraise.gateway.archive_folder import OpenFile
from barnraise.gateway.limits import LIMITS

log = logging.getLogger("barnraise.gateway")

MIN_CHUNK = 64 * 2**10
MAX_CHUNK = 2**20
"""Bytes read at once. A response holds one chunk at most; smaller ones are slower on loopback."""
POOL_BYTES = 16 * 2**20
"""Bytes that all responses hold together. Once they are taken, each gets the smallest chunks."""
READERS = 4
"""Threads that read files."""


@dataclass
class BufferPool:
    """Memory for chunks, shared by all responses; `left` is negative where many hold the smallest chunks."""

    left: int = POOL_BYTES

    def take(self, wanted: int) -> int:
        """Take at most `wanted` bytes, and MIN_CHUNK if the pool is empty."""
        got = min(wanted, max(MIN_CHUNK, self.left))
        self.left -= got
        return got

    def give_back(self, taken: int) -> None:
        self.left += taken


@dataclass(frozen=True)
class FileResponse:
    """A response whose body is bytes [start, stop) of `opened`, which it closes."""

    opened: OpenFile
    start: int
    stop: int
    status: int
    headers: Mapping[str, str]
    threads: ThreadPoolExecutor
    pool: BufferPool
    fast_chunk_seconds: float = LIMITS.fast_chunk_seconds
    """As of `GatewayLimits`."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raw = [
            (name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in self.headers.items()
        ]
        with self.opened:
            await send({"type": "http.response.start", "status": self.status, "headers": raw})
            if scope["method"] != "HEAD":
                gone = asyncio.create_task(_gone(receive))
                try:
                    if not await self._send_all(send, gone):
                        return
                finally:
                    gone.cancel()
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send_all(self, send: Send, gone: asyncio.Task[None]) -> bool:
        loop = asyncio.get_running_loop()
        offset, size = self.start, MIN_CHUNK
        while offset < self.stop:
            held = self.pool.take(min(size, self.stop - offset))
            try:
                chunk = await loop.run_in_executor(self.threads, self._read, offset, held)
                if gone.done() or not chunk:
                    return False
                offset += len(chunk)
                before = loop.time()
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
                del chunk
                # An empty message waits until the chunk has left, so that no response holds two.
                await send({"type": "http.response.body", "body": b"", "more_body": True})
            finally:
                self.pool.give_back(held)
            fast = loop.time() - before < self.fast_chunk_seconds
            size = min(size * 2, MAX_CHUNK) if fast else max(size // 2, MIN_CHUNK)
        return True

    def _read(self, offset: int, wanted: int) -> bytes:
        """Empty, with a warning, where the file ends before the announced length."""
        try:
            chunk = self.opened.read_at(offset, wanted)
            problem = "it became shorter"
        except OSError as error:
            chunk, problem = b"", str(error)
        if not chunk:
            log.warning("%s is cut off at byte %d: %s", self.opened.path, offset, problem)
        return chunk


async def _gone(receive: Receive) -> None:
    """Returns when the client has disconnected."""
    while (await receive())["type"] != "http.disconnect":
        pass
