"""Whole blobs over a stream: one asks by hash from an offset on, the other sends. No libp2p in here.

    request:  32 bytes SHA-256, 8 bytes offset
    reply:    8 bytes size of the whole blob (NOT_HELD when we have none), then its bytes from offset on

Numbers are little-endian. The request has a fixed size, and a reply is read only up to the size that
the asker allows, so a stranger cannot make either side hold more than a chunk. It serves closes,
manifests, shards and checkpoints; contributions travel in pieces (`piece_stream`).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TypeVar

from barnraise.core.errors import Unreachable
from barnraise.core.ids import BlobHash
from barnraise.network.blobs.rate_limiter import RateLimiter, Traffic
from barnraise.runtime.blob_store import BlobStore
from barnraise.runtime.files import disk_errors

NOT_HELD = 2**64 - 1
STALL_SECONDS = 20.0
"""A stream that moves nothing for this long is given up."""
_REQUEST_BYTES = 40

V = TypeVar("V")


async def receive(
    name: BlobHash,
    limit: int,
    blobs: BlobStore,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    limiter: RateLimiter,
    traffic: Traffic,
) -> None:
    """Grow the store's partial file of `name` until it is whole. Its hash is still to be checked.

    Raises Unreachable when the holder has none or offers more than `limit`, EOFError, OSError or
    TimeoutError when the stream breaks, DiskFull.
    """
    part = blobs.partial(name)
    offset = part.stat().st_size if part.exists() else 0
    writer.write(bytes.fromhex(name) + offset.to_bytes(8, "little"))
    size = int.from_bytes(await until_stalled(reader.readexactly(8)), "little")
    if not offset <= size <= limit:
        held = "it does not hold it" if size == NOT_HELD else f"it offers {size} bytes, not {limit}"
        raise Unreachable(held, fix="Another holder is asked.")
    with part.open("ab") as file:
        while offset < size:
            chunk = await until_stalled(reader.read(min(limiter.chunk, size - offset)))
            if not chunk:
                raise EOFError(f"the stream ended at {offset} of {size} bytes")
            with disk_errors(part):
                file.write(chunk)
            offset += len(chunk)
            traffic.down += len(chunk)
            await limiter.acquire(len(chunk))


@dataclass(frozen=True)
class Sent:
    """The asker read the blob to its end."""

    name: BlobHash


@dataclass(frozen=True)
class NotHeld:
    name: BlobHash


async def answer(
    blobs: BlobStore,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    limiter: RateLimiter,
    traffic: Traffic,
) -> Sent | NotHeld:
    """Serve one request, and wait for the asker to end the stream: some of libp2p's transports drop
    what is still on its way when the sender closes.

    Raises EOFError, OSError or TimeoutError when the stream breaks.
    """
    request = await until_stalled(reader.readexactly(_REQUEST_BYTES))
    name, offset = BlobHash(request[:32].hex()), int.from_bytes(request[32:], "little")
    if name not in blobs:
        writer.write(NOT_HELD.to_bytes(8, "little"))
        await until_stalled(writer.drain())
        await until_stalled(reader.read(1))
        return NotHeld(name)
    with blobs.path(name).open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        writer.write(size.to_bytes(8, "little"))
        file.seek(min(offset, size))
        while chunk := file.read(limiter.chunk):
            await send(writer, chunk, limiter, traffic)
    await until_stalled(reader.read(1))
    return Sent(name)


async def send(
    writer: asyncio.StreamWriter, chunk: bytes | memoryview, limiter: RateLimiter, traffic: Traffic
) -> None:
    """One chunk, when it is its turn and the receiver keeps up."""
    await limiter.acquire(len(chunk))
    writer.write(chunk)
    await until_stalled(writer.drain())
    traffic.up += len(chunk)


async def until_stalled(step: Awaitable[V]) -> V:
    return await asyncio.wait_for(step, STALL_SECONDS)
