"""Requests for pieces on the wire: what is refused, what is bounded, and who holds a stream."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barnraise.contract.pieces import PIECE_BYTES, piece_count, piece_list
from barnraise.core.errors import MalformedBlob
from barnraise.core.ids import BlobHash, blob_hash
from barnraise.network.blobs.connection_limits import (
    MAX_STREAMS,
    MAX_STREAMS_PER_PEER,
    REMEMBERED,
    ConnectionLimits,
    SentPieces,
)
from barnraise.network.blobs.piece_protocol import HAVE, IDLE_SECONDS, LIST, MAX_BLOB_BYTES, open_request
from tests.support import virtual_time
from tests.support.transfers import SIZE, Net, Stream, blob, key, stream_pair

V = TypeVar("V")
DATA = blob()
NAME = blob_hash(DATA)
COUNT = piece_count(SIZE)


def request(index: int, size: int = SIZE, name: str = NAME) -> bytes:
    return bytes.fromhex(name) + size.to_bytes(8, "little") + index.to_bytes(4, "little")


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
        writer.write(request(0, SIZE + 1) + request(HAVE))
        assert await reader.readexactly(2) == b"\x01\x7f"
        assert await reader.readexactly(2 + 1000) == b"\x03\x7f" + DATA[-1000:]
        assert await reader.readexactly(2 + 32 * COUNT) == b"\x02\x7f" + piece_list(DATA)
        assert await reader.readexactly(1) == b"\x00", "of another size, it holds nothing"
        assert await reader.readexactly(2) == b"\x01\x7f"

    served(tmp_path, scene)


@pytest.mark.parametrize(
    "bad", [request(COUNT), request(LIST - 1), request(0, 0), request(HAVE, MAX_BLOB_BYTES + 1), b"\xff" * 44]
)
def test_what_no_blob_has_ends_the_stream(tmp_path: Path, bad: bytes) -> None:
    async def scene(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(bad)
        return await reader.read()

    assert served(tmp_path, scene) == b""


@given(st.binary(min_size=44, max_size=44))
def test_any_bytes_are_a_request_that_can_be_or_refused(wire: bytes) -> None:
    try:
        found = open_request(wire)
    except MalformedBlob:
        return
    assert 0 < found.size <= MAX_BLOB_BYTES
    assert found.index in (HAVE, LIST) or found.index * PIECE_BYTES < found.size


def test_who_stays_silent_is_sent_away(tmp_path: Path) -> None:
    async def scene(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(request(HAVE)[:20])
        assert await reader.read() == b""
        assert asyncio.get_running_loop().time() == pytest.approx(IDLE_SECONDS, abs=1)

    served(tmp_path, scene)


def test_who_asks_and_never_reads_is_sent_away(tmp_path: Path) -> None:
    """It costs a piece of memory, whatever it asked for, and that only for a while."""

    async def scene(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(1000):
            writer.write(request(0))
        await asyncio.sleep(IDLE_SECONDS)
        with pytest.raises(asyncio.IncompleteReadError):
            await reader.readexactly(1000 * PIECE_BYTES)

    served(tmp_path, scene)


# Doors


def with_streams(count: int, scene: Callable[[list[Stream]], Awaitable[V]]) -> V:
    async def play() -> V:
        pairs = [await stream_pair() for _ in range(count)]
        try:
            return await scene([ours for ours, _ in pairs])
        finally:
            for (_, one), (_, two) in pairs:
                one.close()
                two.close()

    return virtual_time.run(play())


def test_one_peer_gets_so_many_streams_and_no_more() -> None:
    async def scene(streams: list[Stream]) -> None:
        limits = ConnectionLimits()
        places = [limits.admitted("ada", writer) for _, writer in streams]
        streams_held = [place.__enter__() for place in places]
        assert [stream is not None for stream in streams_held] == [True] * MAX_STREAMS_PER_PEER + [False]
        with limits.admitted("ben", streams[0][1]) as other:
            assert other is not None
        for place in places:
            place.__exit__(None, None, None)
        with limits.admitted("ada", streams[0][1]) as again:
            assert again is not None
        assert not limits._per_peer

    with_streams(MAX_STREAMS_PER_PEER + 1, scene)


def test_a_crowd_drives_out_the_idle_and_not_those_that_are_served() -> None:
    async def scene(streams: list[Stream]) -> None:
        limits = ConnectionLimits()
        places = [limits.admitted(str(number), writer) for number, (_, writer) in enumerate(streams)]
        streams_held = [place.__enter__() for place in places[:MAX_STREAMS]]
        for stream in streams_held[5:8]:
            assert stream is not None
            limits.set_idle(stream, True)
        more = [place.__enter__() for place in places[MAX_STREAMS:]]
        assert [stream is not None for stream in more] == [True, True, True, False]
        closed = [number for number, (_, writer) in enumerate(streams) if writer.is_closing()]
        assert closed == [5, 6, 7]
        for place in places:
            place.__exit__(None, None, None)

    with_streams(MAX_STREAMS + 4, scene)


# What was sent


def test_memory_of_what_was_sent_is_bounded_but_never_forgets_who_waits() -> None:
    async def scene() -> None:
        sent, names = SentPieces(), [BlobHash(f"{number:064x}") for number in range(3 * REMEMBERED)]
        waiting = asyncio.ensure_future(sent.wait(names[0], 1000))
        await asyncio.sleep(1)
        sent.piece_sent(names[0], 1, 2)
        for name in names[1:]:
            sent.all_sent(name)
        assert len(sent._sent) <= REMEMBERED + 1
        sent.piece_sent(names[0], 0, 2)
        assert await waiting
        assert not await sent.wait(names[1], 1), "forgotten"
        assert await sent.wait(names[-1], 1)

    virtual_time.run(scene())
