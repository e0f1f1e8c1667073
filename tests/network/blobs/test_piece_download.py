"""Blobs in pieces from several honest holders: caps, broken streams, restarts. In virtual time."""

from __future__ import annotations

import asyncio
from contextlib import closing, suppress
from pathlib import Path

import pytest

from barnraise.contract.pieces import PIECE_BYTES
from barnraise.core.ids import blob_hash
from barnraise.network.blobs.piece_picker import MAX_PIPELINE
from barnraise.network.blobs.piece_protocol import REQUEST_BYTES, open_request
from barnraise.network.blobs.rate_limiter import Caps
from tests.support.transfers import (
    COUNT,
    DATA,
    NAME,
    SIZE,
    Net,
    blob,
    elapsed,
    get,
    honest,
    key,
    play,
    wanted,
)


def test_a_blob_is_downloaded_from_its_owner(tmp_path: Path) -> None:
    async def scene(net: Net) -> None:
        owner, ada = net.node("owner"), net.node("ada")
        owner.holds(DATA)
        assert await get(ada, "owner", "ada") == DATA
        assert await owner.transfer.wait_served(NAME, 1)
        down = ada.transfer.traffic.down
        assert SIZE < down < SIZE + 1000
        assert await get(ada) == DATA, "what is here is not requested"
        assert ada.transfer.traffic.down == down

    play(tmp_path, scene)


def test_few_requests_are_in_flight_to_one_holder(tmp_path: Path) -> None:
    peak = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal peak
        with closing(writer), suppress(asyncio.IncompleteReadError):
            while True:
                asked = [open_request(await reader.readexactly(REQUEST_BYTES))]
                with suppress(asyncio.TimeoutError):
                    while True:
                        asked.append(
                            open_request(await asyncio.wait_for(reader.readexactly(REQUEST_BYTES), 0.05))
                        )
                peak = max(peak, len(asked))
                writer.write(b"".join(honest(request) for request in asked))

    async def scene(net: Net) -> None:
        net.scripted[key("owner")] = serve
        assert await get(net.node("ada"), "owner") == DATA

    play(tmp_path, scene)
    assert peak == MAX_PIPELINE < COUNT - 1


def test_two_halves_become_three_whole_copies(tmp_path: Path) -> None:
    async def scene(net: Net) -> None:
        ada, ben, cleo = net.node("ada"), net.node("ben"), net.node("cleo")
        ada.begins(DATA, 0, 1, 2)
        ben.begins(DATA, 3, 4, 5, 6)
        names = ("owner", "ada", "ben", "cleo")
        assert await asyncio.gather(*(get(node, *names) for node in (ada, ben, cleo))) == [DATA] * 3

    play(tmp_path, scene)


def test_the_owner_sends_little_more_than_one_copy(tmp_path: Path) -> None:
    data = blob(1, 24 * PIECE_BYTES)

    async def scene(net: Net) -> int:
        owner = net.node("owner", Caps(up=500_000))
        owner.holds(data)
        names = ["owner", *(f"peer{number}" for number in range(4))]
        peers = [net.node(name, Caps(up=2_500_000, down=2_500_000)) for name in names[1:]]
        assert await asyncio.gather(*(get(peer, *names, data=data) for peer in peers)) == [data] * 4
        return owner.transfer.traffic.up

    assert play(tmp_path, scene) < 1.3 * len(data)


def test_all_to_all_takes_little_longer_than_the_lines_require(tmp_path: Path) -> None:
    """Five nodes at 20 Mbit/s each way; four of them have a blob for all others."""
    rate, blobs = 2_500_000, [blob(seed, 12 * PIECE_BYTES) for seed in range(4)]

    async def scene(net: Net) -> float:
        names = ["coordinator", *(f"peer{number}" for number in range(4))]
        nodes = [net.node(name, Caps(rate, rate)) for name in names]
        for node, data in zip(nodes[1:], blobs, strict=True):
            node.holds(data)
        holders = [key(name) for name in names]
        await asyncio.gather(
            *(
                node.transfer.fetch_pieces(wanted(data, owner), holders)
                for node in nodes
                for owner, data in zip(names[1:], blobs, strict=True)
            )
        )
        assert all(blob_hash(data) in node.blobs for node in nodes for data in blobs)
        return elapsed()

    bound = 4 * len(blobs[0]) / rate  # what the coordinator has to download
    assert bound - 0.1 < play(tmp_path, scene) < 1.3 * bound


def test_pieces_from_before_a_restart_are_not_fetched_again(tmp_path: Path) -> None:
    async def scene(net: Net) -> None:
        owner, ada = net.node("owner"), net.node("ada")
        owner.holds(DATA)
        ada.begins(DATA, 0, 2, 5)
        part = ada.blobs.in_pieces(wanted(DATA))
        part.write_bytes(part.read_bytes()[: 6 * PIECE_BYTES - 1])  # the last of them is not whole
        assert await get(ada, "owner") == DATA
        assert SIZE - 2 * PIECE_BYTES < ada.transfer.traffic.down < SIZE - 2 * PIECE_BYTES + 1000
        assert not part.exists()

    play(tmp_path, scene)


def test_a_broken_stream_is_opened_again_and_resumed(tmp_path: Path) -> None:
    asked: list[int] = []

    async def breaks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer):
            for _ in range(4):
                request = open_request(await reader.readexactly(REQUEST_BYTES))
                asked.append(request.index)
                writer.write(honest(request))
            writer.write_eof()
            await reader.read()  # a socket that is closed with unread requests drops its answers

    async def scene(net: Net) -> None:
        net.scripted[key("owner")] = breaks
        assert await get(net.node("ada"), "owner") == DATA
        assert len(net.opened) == 3
        pieces = [index for index in asked if index < COUNT]
        assert set(pieces) == set(range(COUNT))

    play(tmp_path, scene)


def test_concurrent_downloads_share_one_stream(tmp_path: Path) -> None:
    blobs = [blob(seed, 2 * PIECE_BYTES) for seed in range(5)]

    async def scene(net: Net) -> None:
        owner, ada = net.node("owner"), net.node("ada")
        for data in blobs:
            owner.holds(data)
        assert await asyncio.gather(*(get(ada, "owner", data=data) for data in blobs)) == blobs
        assert len(net.opened) == 1
        assert await get(ada, "owner", data=owner.blobs.get(owner.holds(b"later"))) == b"later"
        assert len(net.opened) == 2, "and it is closed after its last user"

    play(tmp_path, scene)


def test_concurrent_requests_for_one_blob_download_it_once(tmp_path: Path) -> None:
    async def scene(net: Net) -> None:
        ada = net.node("ada")
        net.node("owner").holds(DATA)
        assert await asyncio.gather(*(get(ada, "owner") for _ in range(2))) == [DATA] * 2
        assert ada.transfer.traffic.down < SIZE + 1000

    play(tmp_path, scene)


def test_a_holder_without_the_blob_is_polled(tmp_path: Path) -> None:
    async def scene(net: Net) -> None:
        ben, ada = net.node("ben"), net.node("ada")
        getting = asyncio.ensure_future(get(ada, "ben"))
        await asyncio.sleep(5)
        ben.holds(DATA)
        assert await getting == DATA

    play(tmp_path, scene)


def test_a_node_serves_pieces_of_a_blob_that_it_still_downloads(tmp_path: Path) -> None:
    """The owner's line is slow: Ada serves pieces long before she has all of them."""

    async def scene(net: Net) -> None:
        owner, ada, ben = net.node("owner", Caps(up=100_000)), net.node("ada"), net.node("ben")
        owner.holds(DATA)
        first = asyncio.ensure_future(get(ada, "owner", "ben"))
        second = asyncio.ensure_future(get(ben, "owner", "ada"))
        assert await first == await second == DATA
        assert owner.transfer.traffic.up < 1.5 * SIZE

    play(tmp_path, scene)


# Caps


@pytest.mark.parametrize("caps", [(Caps(up=625_000), Caps()), (Caps(), Caps(down=625_000))])
def test_a_cap_holds(tmp_path: Path, caps: tuple[Caps, Caps]) -> None:
    """5 Mbit/s at either end: never more than the cap, and little less in the end."""

    async def scene(net: Net) -> None:
        owner, ada = net.node("owner", caps[0]), net.node("ada", caps[1])
        owner.holds(DATA)
        getting = asyncio.ensure_future(get(ada, "owner"))
        while not getting.done():
            await asyncio.sleep(0.1)
            assert ada.transfer.traffic.down <= 625_000 * (elapsed() + 0.1) + 2 * 65_536
        assert await getting == DATA
        assert elapsed() == pytest.approx(SIZE / 625_000, rel=0.1, abs=0.1)

    play(tmp_path, scene)
