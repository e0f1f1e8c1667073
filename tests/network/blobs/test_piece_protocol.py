"""Requests for pieces on the wire: what is refused, and what is bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barnraise.contract.pieces import PIECE_BYTES, piece_count, piece_list, pieces_hash
from barnraise.core.errors import MalformedBlob
from barnraise.core.ids import blob_hash
from barnraise.network.blobs.piece_protocol import HAVE, LIST, MAX_BLOB_BYTES, REQUEST_BYTES, open_request
from barnraise.network.timing import TIMING
from tests.support import virtual_time
from tests.support.transfers import SIZE, Net, blob, key

V = TypeVar("V")
DATA = blob()
NAME = blob_hash(DATA)
COUNT = piece_count(SIZE)
PIECES = pieces_hash(DATA)


def request(index: int, size: int = SIZE, name: str = NAME, pieces: str = PIECES) -> bytes:
    described = bytes.fromhex(name) + size.to_bytes(8, "little") + bytes.fromhex(pieces)
    return described + index.to_bytes(4, "little")


def served(folder: Path, scene: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[V]]) -> V:
    """One stream to a node that holds the blob."""

    async def play() -> V:
        net = Net(folder)
        net.node("ada").holds(DATA)
        reader, writer = await net._open("ben", key("ada"), "barnraise/pieces/1")
        try:
            return await scene(reader, writer)
        finally:
            writer.close()

    return virtual_time.run(play())


def test_requests_are_answered_in_their_order(tmp_path: Path) -> None:
    async def scene(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(request(HAVE) + request(COUNT - 1) + request(LIST))
        writer.write(request(0, SIZE + 1) + request(0, pieces=pieces_hash(blob(5))) + request(HAVE))
        assert await reader.readexactly(2) == b"\x01\x7f"
        assert await reader.readexactly(2 + 1000) == b"\x03\x7f" + DATA[-1000:]
        assert await reader.readexactly(2 + 32 * COUNT) == b"\x02\x7f" + piece_list(DATA)
        assert await reader.readexactly(1) == b"\x00", "of another size, it holds nothing"
        assert await reader.readexactly(1) == b"\x00", "and nothing with another piece list"
        assert await reader.readexactly(2) == b"\x01\x7f"

    served(tmp_path, scene)


@pytest.mark.parametrize(
    "bad",
    [
        request(COUNT),
        request(LIST - 1),
        request(0, 0),
        request(HAVE, MAX_BLOB_BYTES + 1),
        b"\xff" * REQUEST_BYTES,
    ],
)
def test_a_request_for_what_no_blob_has_ends_the_stream(tmp_path: Path, bad: bytes) -> None:
    async def scene(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(bad)
        return await reader.read()

    assert served(tmp_path, scene) == b""


@given(st.binary(min_size=REQUEST_BYTES, max_size=REQUEST_BYTES))
def test_random_bytes_are_a_valid_request_or_refused(wire: bytes) -> None:
    try:
        found = open_request(wire)
    except MalformedBlob:
        return
    assert 0 < found.size <= MAX_BLOB_BYTES
    assert found.index in (HAVE, LIST) or found.index * PIECE_BYTES < found.size


def test_a_silent_asker_is_disconnected(tmp_path: Path) -> None:
    async def scene(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(request(HAVE)[:20])
        assert await reader.read() == b""
        assert asyncio.get_running_loop().time() == pytest.approx(TIMING.idle, abs=1)

    served(tmp_path, scene)


def test_an_asker_that_never_reads_is_disconnected(tmp_path: Path) -> None:
    """It costs one piece of memory, however much it requested, and for a limited time."""

    async def scene(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(1000):
            writer.write(request(0))
        await asyncio.sleep(TIMING.idle)
        with pytest.raises(asyncio.IncompleteReadError):
            await reader.readexactly(1000 * PIECE_BYTES)

    served(tmp_path, scene)
