"""Clients that connect and send nothing, or little, so that no place is left for a volunteer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2_grpc

from barnraise.contract.invite import Invite
from barnraise.core.ids import Millis
from barnraise.network.tls.channel import secure_channel
from barnraise.runtime.run_clock import RunClock
from coordinator.call_limits import LIMITS
from coordinator.store.run_store import RunStore
from peer.coordinator_client import connect
from tests.support import parts
from tests.support.coordinators import opened_store, served, session_of

FEW = replace(LIMITS, connections=20, reserved_connections=4)
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]
CLIENT_HELLO = b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc"
"""The beginning of a TLS handshake whose first message has 16 KiB."""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    with opened_store(tmp_path) as made:
        yield made


async def opened(invite: Invite, count: int) -> list[Connection]:
    endpoint = invite.endpoints[0]
    return [await asyncio.open_connection(endpoint.host, endpoint.port) for _ in range(count)]


async def is_closed(connection: Connection) -> bool:
    try:
        return await asyncio.wait_for(connection[0].read(1), 0.2) == b""
    except asyncio.TimeoutError:
        return False
    except OSError:
        return True


async def joins(invite: Invite) -> bool:
    async with connect(invite) as there:
        joined = await there.join(
            parts.ADA, "", RunClock(lambda: Millis(0), lambda: parts.NOW), instance=parts.INSTANCE
        )
    return joined.admission.value.peer == parts.ADA.public


async def end(connections: list[Connection]) -> None:
    for _, writer in connections:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


def test_one_address_that_holds_connections_leaves_room(store: RunStore, address: list[str]) -> None:
    async def play() -> None:
        async with served(session_of(store), limits=FEW) as invite:
            flood = await opened(invite, 40)
            closed = [await is_closed(one) for one in flood]
            assert closed.count(False) == 8, "half of what is not reserved"
            address[0] = "198.51.100.7"
            assert await joins(invite)
            await end(flood)

    asyncio.run(play())


def test_places_are_reserved_for_addresses_of_admitted_keys(store: RunStore, address: list[str]) -> None:
    async def play() -> None:
        async with served(session_of(store), limits=FEW) as invite:
            address[0] = "198.51.100.7"
            assert await joins(invite)
            flood = []
            for n in range(40):
                address[0] = f"192.0.2.{n}"
                flood += await opened(invite, 1)
                await asyncio.sleep(0)
            assert [await is_closed(one) for one in flood].count(False) == 16
            address[0] = "198.51.100.7"
            assert await joins(invite)
            await end(flood)

    asyncio.run(play())


@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01"])
def test_who_says_nothing_or_begins_and_stops_is_disconnected(store: RunStore, said: bytes) -> None:
    quick = replace(LIMITS, first_bytes_seconds=0.3, handshake_seconds=0.3)

    async def play() -> None:
        async with served(session_of(store), limits=quick) as invite:
            ((reader, writer),) = await opened(invite, 1)
            writer.write(said)
            assert await asyncio.wait_for(reader.read(), 20) == b""
            await end([(reader, writer)])
            assert await joins(invite)

    asyncio.run(play())


async def outcome(call: Any) -> grpc.StatusCode | None:
    """Read all replies."""
    try:
        while await call.read() is not grpc.aio.EOF:  # type: ignore[attr-defined]
            pass
    except grpc.aio.AioRpcError as error:
        return error.code()
    return None


def test_a_stream_of_the_health_service_has_an_end(store: RunStore) -> None:
    """A watch lasted as long as its caller wanted, and so did each call of the reflection service."""
    brief = replace(LIMITS, stream_seconds=0.2)

    async def play() -> None:
        async with (
            served(session_of(store), limits=brief) as invite,
            secure_channel(invite.endpoints[0], invite.run, (invite.key,)) as channel,
        ):
            watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            reflect = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo()
            for call in (watch, reflect):
                assert await asyncio.wait_for(outcome(call), 20) is grpc.StatusCode.DEADLINE_EXCEEDED

    asyncio.run(play())


def test_a_connection_has_an_end(store: RunStore) -> None:
    """Also where its handshake goes on, a byte at a time."""
    brief = replace(LIMITS, connection_seconds=1.0, first_bytes_seconds=60.0, handshake_seconds=60.0)

    async def trickle(connection: Connection) -> None:
        _, writer = connection
        writer.write(CLIENT_HELLO)
        while not await is_closed(connection):
            writer.write(b"\0")

    async def play() -> None:
        async with served(session_of(store), limits=brief) as invite:
            (connection,) = await opened(invite, 1)
            await asyncio.wait_for(trickle(connection), 20)
            await end([connection])
            assert await joins(invite)

    asyncio.run(play())
