"""Holders that send one byte a second, or stop in the middle: a blob arrives from the next holder."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest

from barnraise.contract.pieces import PIECE_BYTES
from barnraise.network.blobs.piece_protocol import HAVE, LIST, Request
from barnraise.network.timing import TIMING
from tests.support.transfers import (
    DATA,
    NAME,
    Net,
    Node,
    Serve,
    blob,
    elapsed,
    get,
    holder,
    honest,
    key,
    play,
    wanted,
)


def trickling(data: bytes = DATA, after: int = 0, pause: float = 1.0) -> Serve:
    """Serves a whole blob: at once until `after` bytes, then one byte in `pause` seconds."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer), suppress(asyncio.IncompleteReadError, OSError):
            offset = int.from_bytes((await reader.readexactly(40))[32:], "little")
            writer.write(len(data).to_bytes(8, "little") + data[offset:after])
            for place in range(max(offset, after), len(data)):
                writer.write(data[place : place + 1])
                await writer.drain()
                await asyncio.sleep(pause)

    return serve


async def fetched(net: Net, asker: Node, *holders: str) -> float:
    """The seconds that a whole blob takes."""
    before = elapsed()
    path = await asker.transfer.fetch(NAME, len(DATA), [key(each) for each in holders])
    assert path.read_bytes() == DATA
    return elapsed() - before


@pytest.mark.parametrize("after", [0, PIECE_BYTES + 5, len(DATA) - 10])
def test_a_holder_that_sends_a_byte_a_second_is_left(tmp_path: Path, after: int) -> None:
    """A stream moved by single bytes never counted as stalled: one holder kept a joiner for 19 days."""

    async def scene(net: Net) -> None:
        net.scripted[key("slow")] = trickling(after=after)
        asker, good = net.node("asker"), net.node("good")
        good.holds(DATA)
        assert await fetched(net, asker, "slow", "good") <= TIMING.slow_holder + 2

    play(tmp_path, scene)


def test_the_last_holder_may_be_slow(tmp_path: Path) -> None:
    """8 kB/s are the lowest limit that a volunteer may set."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer), suppress(OSError):
            offset = int.from_bytes((await reader.readexactly(40))[32:], "little")
            writer.write(len(DATA).to_bytes(8, "little"))
            for place in range(offset, len(DATA), 8000):
                writer.write(DATA[place : place + 8000])
                await writer.drain()
                await asyncio.sleep(1)

    async def scene(net: Net) -> None:
        net.scripted[key("slow")] = serve
        assert await fetched(net, net.node("asker"), "slow") > len(DATA) / 8000 - 2

    play(tmp_path, scene)


def stopping_after(pieces: int) -> Callable[[Request], bytes | None]:
    """Serves some pieces, and nothing more."""
    left = [pieces]

    def answer(request: Request) -> bytes | None:
        if request.index < 2**32 - 2:
            left[0] -= 1
            if left[0] < 0:
                return None
        return honest(request)

    return answer


@pytest.mark.parametrize("pieces", [0, 2, 6])
def test_holders_that_stop_in_the_middle_delay_a_contribution_by_two_timeouts(
    tmp_path: Path, pieces: int
) -> None:
    async def scene(net: Net) -> None:
        for name in ("one", "two", "three"):
            net.scripted[key(name)] = holder(stopping_after(pieces))
        asker, owner = net.node("asker"), net.node("owner")
        owner.holds(DATA)
        assert await get(asker, "one", "two", "three", "owner") == DATA
        assert elapsed() <= 2 * TIMING.stall + 5, "a piece is requested twice at most at a time"

    play(tmp_path, scene)


def silent_about_pieces(data: bytes) -> Callable[[Request], bytes | None]:
    """Says that it has all of a blob, and sends no piece."""
    return lambda request: honest(request, data) if request.index in (HAVE, LIST) else None


def test_many_stallers_leave_room_for_holders_that_serve(tmp_path: Path) -> None:
    """Forty keys announce contributions of which no piece arrives: they held all pieces in flight."""

    async def scene(net: Net) -> None:
        asker, owner = net.node("asker"), net.node("owner")
        owner.holds(DATA)
        assert await get(asker, "owner") == DATA, "it has served before"
        stalled = []
        for number in range(40):
            data, name = blob(seed=number + 1), f"bad {number}"
            net.scripted[key(name)] = holder(silent_about_pieces(data))
            fetching = asker.transfer.fetch_pieces(wanted(data, name), [key(name)])
            stalled.append(asyncio.ensure_future(fetching))
        await asyncio.sleep(5)
        before, more = elapsed(), blob(seed=99)
        owner.holds(more)
        assert await get(asker, "owner", data=more) == more
        assert elapsed() - before < 1
        for task in stalled:
            task.cancel()
        await asyncio.wait(stalled)

    play(tmp_path, scene)
