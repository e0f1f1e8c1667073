"""Messages behind their length over streams between nodes. No libp2p in here.

message:  4 bytes length, little-endian, then the message
"""

from __future__ import annotations

import asyncio

from barnraise.core.errors import MalformedRecord
from barnraise.core.ids import PublicKey
from barnraise.network.streams import OpenStream, end_stream, first_bytes, until_stalled
from barnraise.network.timing import Timing

_LENGTH = 4
_RECEIVED = b"\x01"
"""The answer to a message that needs no other."""


async def read_message(reader: asyncio.StreamReader, limit: int, kind: str, timing: Timing) -> bytes:
    """Read one message. kind: what it should be, as in "a record".

    Raises MalformedRecord where it is larger than `limit`; OSError, EOFError, TimeoutError.
    """
    size = int.from_bytes(await first_bytes(reader.readexactly(_LENGTH), timing), "little")
    if size > limit:
        raise MalformedRecord(f"{kind} of {size} bytes", fix="It is not read.")
    return await until_stalled(reader.readexactly(size), timing)


async def write_message(writer: asyncio.StreamWriter, data: bytes, timing: Timing) -> None:
    """Raises OSError, TimeoutError."""
    writer.write(len(data).to_bytes(_LENGTH, "little") + data)
    await until_stalled(writer.drain(), timing)


async def acknowledge(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, timing: Timing) -> None:
    """Say that a message was received, and wait until its sender has read that. Raises OSError, TimeoutError.

    The daemon drops what is under way when an end is closed: the sender closes first.
    """
    writer.write(_RECEIVED)
    await until_stalled(writer.drain(), timing)
    await until_stalled(reader.read(1), timing)


async def send_message(
    peer: PublicKey, protocol: str, data: bytes, open_stream: OpenStream, timing: Timing
) -> None:
    """Send a message over a stream of its own, and wait until it is received.

    Raises OSError, EOFError, TimeoutError.
    """
    reader, writer = await until_stalled(open_stream(peer, protocol), timing)
    try:
        await write_message(writer, data, timing)
        await until_stalled(reader.readexactly(len(_RECEIVED)), timing)
    finally:
        end_stream(writer)
