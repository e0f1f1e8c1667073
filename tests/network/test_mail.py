"""Messages between two nodes, over streams in memory."""

from __future__ import annotations

import asyncio

from barnraise.core.errors import MalformedRecord
from barnraise.core.ids import PublicKey
from barnraise.network.mail import MAX_MAIL_BYTES, Mail
from barnraise.network.streams import Stream
from tests.support import parts
from tests.support.transfers import stream_pair

PEER = PublicKey("b" * 64)


async def exchanged(*messages: bytes, refuse: bool = False) -> list[bytes]:
    """What arrives of messages that are sent one after another."""
    received: list[bytes] = []

    def deliver(data: bytes) -> None:
        if refuse:
            raise MalformedRecord("it is none", fix="It is dropped.")
        received.append(data)

    serving: list[asyncio.Task[None]] = []

    async def open_stream(peer: PublicKey, protocol: str) -> Stream:
        ours, (reader, writer) = await stream_pair()
        serving.append(asyncio.create_task(there.serve(parts.ADA.public, reader, writer)))
        return ours

    there = Mail(open_stream, parts.guard(), deliver=deliver)
    here = Mail(open_stream, parts.guard())
    for message in messages:
        here.send(PEER, message)
        await asyncio.gather(*here._sending)
    await asyncio.gather(*serving)
    return received


def test_messages_arrive() -> None:
    assert asyncio.run(exchanged(b"one", b"", b"x" * MAX_MAIL_BYTES)) == [b"one", b"", b"x" * MAX_MAIL_BYTES]


def test_a_message_that_is_too_large_is_not_read() -> None:
    assert asyncio.run(exchanged(b"x" * (MAX_MAIL_BYTES + 1), b"two")) == [b"two"]


def test_a_message_that_is_none_is_dropped() -> None:
    assert asyncio.run(exchanged(b"one", refuse=True)) == []


def test_a_peer_that_cannot_be_reached_gets_nothing() -> None:
    async def nowhere(peer: PublicKey, protocol: str) -> Stream:
        raise ConnectionError("no way there")

    async def send() -> None:
        mail = Mail(nowhere, parts.guard())
        mail.send(PEER, b"one")
        await asyncio.gather(*mail._sending)
        mail.close()

    asyncio.run(send())
