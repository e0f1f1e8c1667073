"""Whole blobs over a stream: one side asks by hash and offset, the other sends. No libp2p in here.

    request:  32 bytes SHA-256, 8 bytes offset
    reply:    8 bytes size of the whole blob (NOT_HELD when it is not here), then its bytes from the offset on

Numbers are little-endian. The request has a fixed size, and a reply is read only up to the size that
the asker allows, so a stranger cannot make either side hold more than a chunk. It serves closes,
manifests, shards, checkpoints and states; contributions travel in pieces (`piece_protocol`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from io import FileIO

from barnraise.contract.pieces import PIECE_BYTES
from barnraise.core.ids import BlobHash
from barnraise.network.blobs.holder_outcomes import NotHeld, WrongSize
from barnraise.network.blobs.rate_limiter import RateLimiter, Traffic
from barnraise.network.blobs.served_blobs import set_damaged_aside
from barnraise.network.streams import first_bytes, now, until_stalled
from barnraise.network.timing import TIMING, Timing
from barnraise.runtime.blob_store import BlobStore, FilePart
from barnraise.runtime.files import disk_errors

NOT_HELD = 2**64 - 1
_REQUEST_BYTES = 40


@dataclass(frozen=True)
class Received:
    """The partial file is as long as the blob. Its hash is not checked yet."""


async def receive(
    name: BlobHash,
    limit: int,
    blobs: BlobStore,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    limiter: RateLimiter,
    traffic: Traffic,
    timing: Timing = TIMING,
    *,
    is_last: bool = True,
) -> Received | NotHeld | WrongSize:
    """Append to the store's partial file of `name` until it is complete.

    is_last: whether no other holder is left to ask. Raises EOFError, OSError or TimeoutError when the stream
    breaks or is too slow, DiskFull.
    """
    part = blobs.partial(name)
    offset = part.stat().st_size if part.exists() else 0
    writer.write(bytes.fromhex(name) + offset.to_bytes(8, "little"))
    size = int.from_bytes(await until_stalled(reader.readexactly(8), timing), "little")
    if size == NOT_HELD:
        return NotHeld()
    if not offset <= size <= limit:
        return WrongSize(size, limit)
    with disk_errors(part):
        file = part.open("ab", buffering=0)  # a buffer would fail once more, outside, as it is closed
    pace = _Pace(timing.piece if is_last else timing.slow_holder)
    with file:
        while offset < size:
            began = now()
            chunk = await until_stalled(reader.read(min(limiter.chunk, size - offset)), timing)
            pace.moved(len(chunk), now() - began)
            if not chunk:
                raise EOFError(f"the stream ended at {offset} of {size} bytes")
            with disk_errors(part):
                _write_all(file, chunk)
            offset += len(chunk)
            traffic.down += len(chunk)
            await limiter.acquire(len(chunk))
    return Received()


class _Pace:
    """Ends a stream that trickles: each of its bytes arrives before it would count as stalled."""

    def __init__(self, seconds: float) -> None:
        """seconds: that the holder may take over each piece."""
        self._seconds, self._took, self._moved = seconds, 0.0, 0

    def moved(self, count: int, took: float) -> None:
        """Only the holder's time counts, not that of our rate limit. Raises TimeoutError."""
        self._took += took
        self._moved += count
        if self._moved >= PIECE_BYTES:
            self._took, self._moved = 0.0, 0
        elif self._took > self._seconds:
            raise asyncio.TimeoutError(f"{self._moved} bytes in {self._took:.0f} s")


def _write_all(file: FileIO, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[file.write(left) or 0 :]


@dataclass(frozen=True)
class BlobSent:
    """The asker read the blob to its end."""

    name: BlobHash


@dataclass(frozen=True)
class BlobNotHere:
    """The asker wants a blob that this node does not hold."""

    name: BlobHash


async def answer(
    blobs: BlobStore,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    limiter: RateLimiter,
    traffic: Traffic,
    timing: Timing = TIMING,
) -> BlobSent | BlobNotHere:
    """Serve one request, and wait for the asker to end the stream: some of libp2p's transports drop
    data in flight when the sender closes.

    Raises EOFError, OSError or TimeoutError when the stream breaks.
    """
    request = await first_bytes(reader.readexactly(_REQUEST_BYTES), timing)
    name, offset = BlobHash(request[:32].hex()), int.from_bytes(request[32:], "little")
    # A blob that was damaged here is set aside: the asker tries another holder.
    await set_damaged_aside(blobs, name)
    own = FilePart(blobs.path(name), 0, blobs.size(name)) if name in blobs else None
    part = own or blobs.lent(name)
    if part is None:
        writer.write(NOT_HELD.to_bytes(8, "little"))
        await until_stalled(writer.drain(), timing)
        await until_stalled(reader.read(1), timing)
        return BlobNotHere(name)
    # What is lent is the run's state, which nobody waits for in an ordinary round.
    acquire = limiter.acquire if own else limiter.acquire_in_background
    with part.path.open("rb") as file:
        writer.write(part.size.to_bytes(8, "little"))
        start = min(offset, part.size)
        file.seek(part.offset + start)
        left = part.size - start
        while chunk := file.read(min(limiter.chunk, left)):
            await send(writer, chunk, acquire, traffic, timing)
            left -= len(chunk)
    await until_stalled(reader.read(1), timing)
    return BlobSent(name)


async def send(
    writer: asyncio.StreamWriter,
    chunk: bytes | memoryview,
    acquire: Callable[[int], Awaitable[None]],
    traffic: Traffic,
    timing: Timing = TIMING,
) -> None:
    """Send one chunk, when the rate limit and the receiver allow. Raises OSError, TimeoutError.

    acquire: waits for the rate limit.
    """
    await acquire(len(chunk))
    writer.write(chunk)
    await until_stalled(writer.drain(), timing)
    traffic.up += len(chunk)
