"""Clients that begin one TLS handshake after another and end none: each costs the coordinator a signature."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from barnraise.contract.invite import Invite
from barnraise.core.ids import Millis
from barnraise.core.rates import Allowance
from barnraise.runtime.run_clock import RunClock
from coordinator.call_limits import LIMITS, CallLimits, ConnectionRates
from coordinator.store.run_store import RunStore
from peer.coordinator_client import connect
from tests.support import parts
from tests.support.coordinators import opened_store, served, session_of

TRIES = 40
ENOUGH = Allowance(burst=1000, per_second=1.0)
SOME = Allowance(burst=8, per_second=0.001)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    with opened_store(tmp_path) as made:
        yield made


def client_hello() -> bytes:
    """The first message of a handshake."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["h2"])
    into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        context.wrap_bio(into, out, server_hostname="run").do_handshake()
    except ssl.SSLWantReadError:
        return out.read()
    raise AssertionError("a handshake needs an answer")


async def begin(invite: Invite) -> bool:
    """Begin a handshake, and leave it there. Whether the coordinator answered with its certificate."""
    endpoint = invite.endpoints[0]
    reader, writer = await asyncio.open_connection(endpoint.host, endpoint.port)
    try:
        writer.write(client_hello())
        return bool(await reader.read(1))
    except OSError:
        return False
    finally:
        writer.transport.abort()


async def joins(invite: Invite) -> bool:
    async with connect(invite) as there:
        joined = await there.join(
            parts.ADA, "", RunClock(lambda: Millis(0), lambda: parts.NOW), instance=parts.INSTANCE
        )
    return joined.admission.value.peer == parts.ADA.public


@pytest.mark.parametrize(
    ("limits", "answered"),
    [
        (replace(LIMITS, new_connections=SOME), 8),
        (replace(LIMITS, new_connections=ENOUGH, new_connections_of_new=ENOUGH), TRIES),
    ],
)
def test_one_address_begins_few_handshakes_and_others_join(
    store: RunStore, address: list[str], limits: CallLimits, answered: int
) -> None:
    async def play() -> None:
        async with served(session_of(store), limits=limits) as invite:
            begun = [await begin(invite) for _ in range(TRIES)]
            assert begun.count(True) == answered
            address[0] = "198.51.100.7"
            assert await joins(invite)

    asyncio.run(play())


def test_new_addresses_share_a_rate_and_those_of_admitted_keys_have_their_own(
    store: RunStore, address: list[str]
) -> None:
    limits = replace(LIMITS, new_connections_of_new=SOME)

    async def play() -> None:
        async with served(session_of(store), limits=limits) as invite:
            address[0] = "198.51.100.7"
            assert await joins(invite)
            begun = []
            for number in range(TRIES):
                address[0] = f"192.0.2.{number}"
                begun.append(await begin(invite))
            assert 0 < begun.count(True) < 8
            address[0] = "198.51.100.7"
            assert await joins(invite)

    asyncio.run(play())


def test_a_flood_of_many_addresses_has_a_rate_and_a_pause_helps() -> None:
    """At 2 ms for each handshake, a fifth of a core."""
    rates = ConnectionRates(LIMITS)
    seconds = 1000
    taken = sum(
        rates.take(f"192.0.{number // 250}.{number % 250}", float(second), is_known=False)
        for second in range(seconds)
        for number in range(150)
    )
    most = LIMITS.new_connections_of_new
    assert taken <= most.burst + most.per_second * seconds
    assert rates.take("198.51.100.7", float(seconds), is_known=True)
    own = sum(rates.take("198.51.100.8", float(seconds), is_known=True) for _ in range(1000))
    assert own == LIMITS.new_connections.burst
    assert not rates.take("198.51.100.8", float(seconds), is_known=True)
    assert rates.take("198.51.100.8", seconds + 1.0, is_known=True)
