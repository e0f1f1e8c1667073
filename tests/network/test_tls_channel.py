"""The channel to a server: by the first key, a successor, a closer, or not at all. Real gRPC on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest

from barnraise.contract.charter import Charter
from barnraise.contract.endpoints import Endpoint
from barnraise.contract.keys_in_force import KeysInForce
from barnraise.contract.run_keys import Successors, name_successor
from barnraise.core.errors import BarnraiseError, UserError, WrongRunKey
from barnraise.core.identity import Identity
from barnraise.core.ids import RunId
from barnraise.core.signed import sign
from barnraise.network.tls.certificates import issue
from barnraise.network.tls.channel import NoConnection, NotPinned, channel_to, unpinned_channel
from barnraise.network.tls.trust import Trust
from barnraise.v1 import coordinator_pb2 as pb
from barnraise.v1 import coordinator_pb2_grpc as pb_grpc
from tests.support import parts
from tests.support.coordinators import unused_port

SUCCESSOR = Identity.from_seed(b"s" * 32)
NAMED = (name_successor(parts.RUN, 1, parts.AUTHORITY, SUCCESSOR),)
BY_THIEF = (name_successor(parts.RUN, 1, parts.STRANGER, SUCCESSOR),)
SECONDS = 10.0


class OnlyCharter(pb_grpc.CoordinatorServicer):
    def __init__(self, charter: bytes) -> None:
        self.charter = charter

    async def GetCharter(self, *_: object) -> pb.GetCharterReply:  # noqa: N802
        return pb.GetCharterReply(signed_charter=self.charter)


@asynccontextmanager
async def server(
    by: Identity | None, successors: Successors = (), charter: bytes = b"charter", run: RunId = parts.RUN
) -> AsyncIterator[Endpoint]:
    """by: whose server it is; None: without TLS."""
    made = grpc.aio.server()
    pb_grpc.add_CoordinatorServicer_to_server(OnlyCharter(charter), made)
    if by is None:
        port = made.add_insecure_port("127.0.0.1:0")
    else:
        pair = issue(by, run, successors)
        credentials = grpc.ssl_server_credentials([(pair.private_key, pair.certificate)])
        port = made.add_secure_port("127.0.0.1:0", credentials)
    await made.start()
    try:
        yield Endpoint("127.0.0.1", port)
    finally:
        await made.stop(None)


def trust(keys: KeysInForce | None = None) -> Trust:
    return Trust(parts.RUN, parts.AUTHORITY.public, keys)


async def charter_at(endpoint: Endpoint, by: Trust) -> bytes:
    async with channel_to(endpoint, by, SECONDS) as channel:
        reply = await pb_grpc.CoordinatorStub(channel).GetCharter(pb.GetCharterRequest())
        return bytes(reply.signed_charter)


def with_closers(*closers: Identity) -> Charter:
    spec = parts.run_spec()
    named = spec.closers.model_copy(update={"keys": tuple(closer.public for closer in closers)})
    return parts.charter(spec.model_copy(update={"closers": named}), parts.state())


def test_an_old_invite_reaches_the_successor_of_the_run_s_key() -> None:
    async def play() -> None:
        async with server(SUCCESSOR, NAMED) as endpoint:
            assert await charter_at(endpoint, trust()) == b"charter"

    asyncio.run(play())


def test_a_newcomer_reaches_a_closer_that_the_charter_names() -> None:
    charter = sign(parts.AUTHORITY, with_closers(parts.ADA, parts.BEN)).wire

    async def play() -> None:
        async with server(parts.ADA, charter=charter) as endpoint:
            assert await charter_at(endpoint, trust()) == charter

    asyncio.run(play())


def test_a_volunteer_reaches_a_closer_that_it_knows() -> None:
    async def play() -> None:
        async with server(parts.ADA) as endpoint:
            assert await charter_at(endpoint, trust(parts.keys(parts.ADA.public))) == b"charter"

    asyncio.run(play())


@pytest.mark.parametrize(
    ("by", "successors", "charter"),
    [
        (SUCCESSOR, BY_THIEF, b""),
        (SUCCESSOR, (), b""),
        (parts.STRANGER, NAMED, b""),
        (parts.STRANGER, (), sign(parts.AUTHORITY, with_closers(parts.ADA, parts.BEN)).wire),
        (parts.STRANGER, (), sign(parts.STRANGER, with_closers(parts.STRANGER, parts.BEN)).wire),
        (parts.ADA, (), b"no charter"),
    ],
)
def test_others_are_refused(by: Identity, successors: Successors, charter: bytes) -> None:
    async def play() -> None:
        async with server(by, successors, charter) as endpoint:
            with pytest.raises(WrongRunKey):
                await charter_at(endpoint, trust())

    asyncio.run(play())


def test_a_thief_of_the_first_key_is_refused_after_the_rotation() -> None:
    keys = parts.keys()
    keys.heard(1_000_000, NAMED, parts.RUN)
    keys.follow(keys.at_work)

    async def play() -> None:
        async with server(parts.AUTHORITY) as endpoint:
            with pytest.raises(WrongRunKey):
                await charter_at(endpoint, trust(keys))

    asyncio.run(play())


def test_the_server_of_another_run_of_the_same_key_is_named() -> None:
    async def play() -> None:
        async with server(parts.AUTHORITY, run=RunId("shed")) as endpoint:
            with pytest.raises(UserError, match="serves the run shed"):
                await charter_at(endpoint, trust())

    asyncio.run(play())


def test_without_an_invite_any_coordinator_answers_and_nothing_else() -> None:
    async def asked(endpoint: Endpoint) -> bytes:
        async with unpinned_channel(endpoint, SECONDS) as channel:
            reply = await pb_grpc.CoordinatorStub(channel).GetCharter(pb.GetCharterRequest())
            return bytes(reply.signed_charter)

    async def play() -> None:
        for by in (parts.STRANGER, None):
            async with server(by) as endpoint:
                assert await asked(endpoint) == b"charter"
        with pytest.raises(NoConnection):
            await asked(Endpoint("127.0.0.1", unused_port()))

    asyncio.run(play())


def test_a_server_that_says_nothing_is_given_up_once() -> None:
    """It is not waited for a second time, to look what it speaks."""
    accepted = []

    async def play() -> None:
        listening = await asyncio.start_server(lambda *streams: accepted.append(streams), "127.0.0.1", 0)
        async with listening:
            endpoint = Endpoint("127.0.0.1", listening.sockets[0].getsockname()[1])
            with pytest.raises(NoConnection):
                async with channel_to(endpoint, trust(), 0.5):
                    pass
            for _, writer in accepted:
                writer.close()

    asyncio.run(play())
    assert len(accepted) == 1


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x15\x03\x01\x00\x02\x02\x28"])
def test_a_server_of_something_else_is_no_coordinator(said: bytes) -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        writer.close()

    async def play() -> BarnraiseError:
        listening = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with listening:
            endpoint = Endpoint("127.0.0.1", listening.sockets[0].getsockname()[1])
            with pytest.raises((NoConnection, NotPinned)) as raised:
                await charter_at(endpoint, trust())
            return raised.value

    assert isinstance(asyncio.run(play()), NoConnection)
