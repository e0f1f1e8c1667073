"""Somebody on the way between a volunteer and its coordinator: reads, changes, or answers instead."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from barnraise.contract.endpoints import Endpoint
from barnraise.contract.invite import Invite
from barnraise.contract.keys_in_force import KeysInForce
from barnraise.core.errors import BarnraiseError, Unreachable, WrongRunKey
from barnraise.core.ids import Millis
from barnraise.network.tls.certificates import issue
from barnraise.network.tls.channel import NotPinned
from barnraise.runtime.run_clock import RunClock
from coordinator.grpc_service import serve
from coordinator.store.run_store import RunStore
from peer.coordinator_client import Joined, connect
from peer.timing import TIMING
from tests.support import parts
from tests.support.coordinators import api_of, opened_store, served, session_of

QUICK = replace(TIMING, request=5.0, diagnosis=1.0)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    with opened_store(tmp_path) as made:
        yield made


@dataclass
class Middle:
    """A proxy of TCP connections. It reads all bytes, and may change those of the coordinator."""

    target: Endpoint
    flip: int | None = None
    """The byte of the coordinator's that is changed."""
    seen: bytearray = field(default_factory=bytearray)
    passing: set[asyncio.Task[None]] = field(default_factory=set)
    """One for each connection that is open."""

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[Endpoint]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        async with server:
            yield Endpoint("127.0.0.1", server.sockets[0].getsockname()[1])
        for task in self.passing:
            task.cancel()
        await asyncio.gather(*self.passing, return_exceptions=True)

    def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._connect(reader, writer))
        self.passing.add(task)
        task.add_done_callback(self.passing.discard)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with closing(writer):
            there, back = await asyncio.open_connection(self.target.host, self.target.port)
            async with closing(back):
                await asyncio.gather(self._pass(reader, back, None), self._pass(there, writer, self.flip))

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, flip: int | None
    ) -> None:
        passed = 0
        with suppress(OSError):
            while data := bytearray(await reader.read(65_536)):
                if flip is not None and passed <= flip < passed + len(data):
                    data[flip - passed] ^= 1
                passed += len(data)
                self.seen += data
                writer.write(data)
                await writer.drain()
        writer.close()


@asynccontextmanager
async def closing(writer: asyncio.StreamWriter) -> AsyncIterator[None]:
    try:
        yield
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def join(invite: Invite, keys: KeysInForce | None = None) -> Joined:
    clock = RunClock(lambda: Millis(0), lambda: parts.NOW)
    async with connect(invite, QUICK, keys=keys) as there:
        return await there.join(parts.ADA, "ada of the barn", clock, instance=parts.INSTANCE)


def by_way_of(invite: Invite, endpoint: Endpoint) -> Invite:
    return replace(invite, endpoints=(endpoint,))


def test_who_listens_reads_nothing(store: RunStore) -> None:
    async def play() -> None:
        async with served(session_of(store)) as invite:
            middle = Middle(invite.endpoints[0])
            async with middle.listening() as endpoint:
                joined = await join(by_way_of(invite, endpoint))
            assert joined.charter == store.charter
            for text in (b"ada of the barn", parts.ADA.public.encode(), b"admission", b"PRI * HTTP"):
                assert text not in middle.seen

    asyncio.run(play())


def test_without_tls_all_is_read(store: RunStore) -> None:
    """So that the test before can fail."""

    async def play() -> None:
        async with served(session_of(store), tls=False) as invite:
            middle = Middle(invite.endpoints[0])
            async with middle.listening() as endpoint:
                await join(by_way_of(invite, endpoint))
            assert b"ada of the barn" in middle.seen

    asyncio.run(play())


@pytest.mark.parametrize("flip", [20, 300, 1500])
def test_who_changes_a_byte_ends_the_connection_with_an_error_that_says_so(
    store: RunStore, flip: int
) -> None:
    """No traceback, no endless wait."""

    async def play() -> None:
        async with served(session_of(store)) as invite:
            middle = Middle(invite.endpoints[0], flip)
            async with middle.listening() as endpoint:
                with pytest.raises(BarnraiseError) as raised:
                    await join(by_way_of(invite, endpoint))
            assert isinstance(raised.value, Unreachable | NotPinned | WrongRunKey)

    asyncio.run(play())


@pytest.mark.parametrize("tells_successors", [False, True])
def test_who_answers_with_another_key_is_refused(store: RunStore, tells_successors: bool) -> None:
    """Also where it copies all that the coordinator says, so that each record in its replies is the run's."""

    async def play() -> None:
        certificate = issue(parts.STRANGER, parts.RUN, ())
        server, port = await serve(api_of(session_of(store)), "127.0.0.1", 0, certificate)
        invite = Invite((Endpoint("127.0.0.1", port),), parts.RUN, parts.AUTHORITY.public)
        keys = parts.keys() if tells_successors else None
        try:
            with pytest.raises(WrongRunKey) as raised:
                await join(invite, keys)
        finally:
            await server.stop(None)
        assert parts.STRANGER.public[:8] in raised.value.problem
        assert "new invite" in raised.value.fix

    asyncio.run(play())


def test_a_coordinator_without_tls_is_refused_from_another_machine(
    store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who strips TLS on the way gets no answer."""
    monkeypatch.setattr("barnraise.network.tls.channel.is_this_machine", lambda _: False)

    async def play() -> None:
        async with served(session_of(store), tls=False) as invite:
            with pytest.raises(NotPinned, match="without TLS") as raised:
                await join(invite)
            assert "maintainer" in raised.value.fix

    asyncio.run(play())


def test_of_several_addresses_a_false_one_stops_nobody(store: RunStore) -> None:
    async def play() -> None:
        certificate = issue(parts.STRANGER, parts.RUN, ())
        false, port = await serve(api_of(session_of(store)), "127.0.0.1", 0, certificate)
        try:
            async with served(session_of(store)) as invite:
                both = replace(invite, endpoints=(Endpoint("127.0.0.1", port), *invite.endpoints))
                assert (await join(both)).charter == store.charter
        finally:
            await false.stop(None)

    asyncio.run(play())
