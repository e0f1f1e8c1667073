"""Streams between nodes: opening one, and its timeouts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from barnraise.core.ids import PublicKey
from barnraise.network.timing import TIMING, Timing

V = TypeVar("V")
Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]
OpenStream = Callable[[PublicKey, str], Awaitable[Stream]]
"""Opens a stream to a peer, of a protocol. Raises OSError, EOFError or TimeoutError."""


def now() -> float:
    """Seconds of the event loop's clock."""
    return asyncio.get_running_loop().time()


async def until_stalled(step: Awaitable[V], timing: Timing = TIMING) -> V:
    """The result of one step of a stream. Raises TimeoutError after `timing.stall`."""
    return await asyncio.wait_for(step, timing.stall)


async def first_bytes(step: Awaitable[V], timing: Timing = TIMING) -> V:
    """As `until_stalled`, for what a peer sends first: it opened the stream to send that."""
    return await asyncio.wait_for(step, timing.first_bytes)


def end_stream(writer: asyncio.StreamWriter) -> None:
    """Close a stream at once. A peer that reads nothing would keep one open that still has bytes for it."""
    if writer.transport.get_write_buffer_size():
        writer.transport.abort()
    else:
        writer.close()
