"""A file as an ASGI response: read in threads, in chunks that grow and shrink with what its reader takes."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from starlette.types import Receive, Scope, Send

from barnraise.gateway.archive_folder import OpenFile

log = logging.getLogger("barnraise.gateway")

MIN_CHUNK = 64 * 2**10
MAX_CHUNK = 2**20
"""Bytes read at once. A reader holds one chunk at most; on loopback smaller ones cost speed."""
POOL_BYTES = 16 * 2**20
"""Bytes that all readers hold together. When they are given out, each gets the smallest chunks."""
BRISK_SECONDS = 0.1
"""After a chunk that its reader took in less, the next one is twice as large; else half."""
READERS = 4
"""Threads that read files."""


@dataclass
class BufferPool:
    """What is left of POOL_BYTES; below nought where many hold the least."""

    left: int = POOL_BYTES

    def take(self, wanted: int) -> int:
        got = min(wanted, max(MIN_CHUNK, self.left))
        self.left -= got
        return got


@dataclass(frozen=True)
class FileResponse:
    """A response whose body is a part of `opened`, which it closes."""

    opened: OpenFile
    start: int
    stop: int
    status: int
    headers: Mapping[str, str]
    threads: ThreadPoolExecutor
    pool: BufferPool

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raw = [
            (name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in self.headers.items()
        ]
        with self.opened.file:
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
        place, size = self.start, MIN_CHUNK
        while place < self.stop:
            held = self.pool.take(min(size, self.stop - place))
            try:
                chunk = await loop.run_in_executor(self.threads, self._read, place, held)
                if gone.done() or not chunk:
                    return False
                place += len(chunk)
                before = loop.time()
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
                del chunk
                # An empty message waits until the chunk has left, so that nobody holds two.
                await send({"type": "http.response.body", "body": b"", "more_body": True})
            finally:
                self.pool.left += held
            brisk = loop.time() - before < BRISK_SECONDS
            size = min(size * 2, MAX_CHUNK) if brisk else max(size // 2, MIN_CHUNK)
        return True

    def _read(self, place: int, wanted: int) -> bytes:
        """Empty, and a warning, where nothing more can be read: the sizes that were promised do not hold."""
        try:
            chunk = os.pread(self.opened.file.fileno(), wanted, place)
            problem = "it became shorter"
        except OSError as error:
            chunk, problem = b"", str(error)
        if not chunk:
            log.warning("%s is cut off at byte %d: %s", self.opened.file.name, place, problem)
        return chunk


async def _gone(receive: Receive) -> None:
    """Ends when the asker has hung up."""
    while (await receive())["type"] != "http.disconnect":
        pass
