"""One address that takes all connections or downloads of the HTTP gateway, slowly."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from barnraise.gateway import LIMITS, listen
from tests.support.coordinators import archive, opened_store

FEW = replace(LIMITS, max_connections=20, request_seconds=60.0)
REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The address that the next connection seems to come from."""
    address = ["192.0.2.1"]
    for module in ("server", "app"):
        monkeypatch.setattr(f"barnraise.gateway.{module}.client_group", lambda _: address[0])
    return address


async def answers(connection: Connection) -> bytes:
    """The first line of the answer to a request; empty where the connection is closed."""
    reader, writer = connection
    with suppress(OSError):
        writer.write(REQUEST)
        await writer.drain()
        return await asyncio.wait_for(reader.readline(), 20)
    return b""


def test_one_address_that_holds_connections_leaves_room(tmp_path: Path, address: list[str]) -> None:
    async def play() -> None:
        with opened_store(tmp_path) as store:
            gateway = await listen(archive(store), "127.0.0.1", 0, limits=FEW)
            held = [await asyncio.open_connection("127.0.0.1", gateway.port) for _ in range(40)]
            assert await answers(held[-1]) == b"", "more than half of the places"
            address[0] = "198.51.100.7"
            volunteer = await asyncio.open_connection("127.0.0.1", gateway.port)
            assert (await answers(volunteer)).startswith(b"HTTP/1.1 200")
            for _, writer in (*held, volunteer):
                writer.close()
            await gateway.stop()

    asyncio.run(play())
