"""Nodes exchange addresses: over real streams without libp2p, and between real nodes."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from barnraise.contract.contacts import Contact, ContactPage
from barnraise.contract.records import Head
from barnraise.contract.run_keys import name_successor
from barnraise.core.ids import PublicKey
from barnraise.core.signed import Signed
from barnraise.network.address_book import AddressBook
from barnraise.network.address_lookup import look_up_addresses
from barnraise.network.address_protocol import MAX_ASKING_BYTES, AddressProtocol
from barnraise.network.streams import Stream
from tests.support import parts
from tests.support.contacts import contact, signed_head
from tests.support.swarms import HIVEMIND_WARNS, NOW, SwarmNode, admission, node
from tests.support.transfers import stream_pair


class Side:
    """One node's end of the protocol."""

    def __init__(self, own: Signed[Contact] | None = None, head: Signed[Head] | None = None) -> None:
        self.book = AddressBook(parts.RUN, parts.keys())
        self.learned: list[Signed[Head]] = []

        async def contact() -> Signed[Contact] | None:
            return own

        self.protocol = AddressProtocol(
            self.book, lambda: parts.NOW, contact, lambda: head, self.learned.append, parts.guard(), Random(0)
        )

    @property
    def known(self) -> list[PublicKey]:
        return [key for key, _ in self.book.candidates(())]


def exchange(asker: Side, answerer: Side) -> bool:
    async def play() -> bool:
        (ours, theirs), serving = await stream_pair(), []

        async def open_stream(peer: PublicKey, protocol: str) -> Stream:
            serving.append(asyncio.create_task(answerer.protocol.serve(parts.ADA.public, *theirs)))
            return ours

        answered = await asker.protocol.ask(parts.BEN.public, open_stream)
        await asyncio.gather(*serving)
        return answered

    return asyncio.run(play())


def test_both_learn_from_an_exchange() -> None:
    asker, answerer = Side(contact(parts.ADA)), Side(head=signed_head())
    answerer.book.learn_contact(contact(parts.BEN))
    assert exchange(asker, answerer)
    assert (asker.known, set(answerer.known)) == ([parts.BEN.public], {parts.ADA.public, parts.BEN.public})
    assert asker.learned == [signed_head()]
    assert answerer.learned == []


def test_a_newer_head_of_the_asker_is_learned() -> None:
    asker, answerer = Side(head=signed_head(at=parts.NOW + 1)), Side(head=signed_head())
    assert exchange(asker, answerer)
    assert answerer.learned == [signed_head(at=parts.NOW + 1)]


def test_a_head_with_another_successor_than_the_log_is_not_learned() -> None:
    """It was received, by a key that was stolen, before the log named the successor."""
    named, by_thief = (name_successor(parts.RUN, 1, parts.AUTHORITY, key) for key in (parts.ADA, parts.BEN))
    asker = Side(head=signed_head(successors=(by_thief,)))
    asker.book.keys.follow(replace(asker.book.keys.position, successors=(named,)))
    answerer = Side(head=signed_head(at=parts.NOW - 1))
    assert exchange(asker, answerer)
    assert asker.book.head == signed_head(at=parts.NOW - 1)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"\xff\xff\xff\xff",
        (MAX_ASKING_BYTES + 1).to_bytes(4, "little"),
        b"\x04\x00\x00\x00oops",
        b"\x10\x00\x00\x00{",
        ContactPage(head=None, contacts=(contact(parts.ADA).text, contact(parts.BEN).text))
        .model_dump_json()
        .encode(),
    ],
)
def test_hostile_askers_are_not_answered(sent: bytes) -> None:
    answerer = Side()
    if sent.startswith(b"{"):
        sent = len(sent).to_bytes(4, "little") + sent

    async def play() -> bytes:
        (reader, writer), theirs = await stream_pair()
        writer.write(sent)
        writer.write_eof()
        await answerer.protocol.serve(parts.STRANGER.public, *theirs)
        answer = await reader.read()
        writer.close()
        return answer

    assert asyncio.run(play()) == b""
    assert answerer.known == []


@HIVEMIND_WARNS
def test_a_stranger_finds_the_coordinator_by_a_volunteer(tmp_path: Path) -> None:
    """The volunteer met the coordinator; the stranger knows the volunteer's contact alone."""

    async def scene(coordinator: SwarmNode, ada: SwarmNode) -> AddressBook:
        await coordinator.swarm.publish(parts.head(at=NOW, opens=NOW, api=("127.0.0.1:7451",)))
        assert await ada.swarm.exchange_addresses(coordinator.key)
        known = coordinator.swarm.known_addresses().candidates(())
        assert [key for key, _ in known] == [parts.ADA.public]
        book = AddressBook(parts.RUN, parts.keys())
        assert await look_up_addresses(book, known, lambda: NOW) == 1
        return book

    async def play() -> AddressBook:
        async with (
            node(tmp_path, parts.AUTHORITY) as coordinator,
            node(tmp_path, parts.ADA, coordinator, admission=admission(parts.ADA)) as ada,
        ):
            return await scene(coordinator, ada)

    book = asyncio.run(asyncio.wait_for(play(), 60))
    assert book.head is not None
    assert book.head.value.api == ("127.0.0.1:7451",)


@HIVEMIND_WARNS
def test_a_node_joins_by_known_volunteers_where_the_coordinator_is_away(tmp_path: Path) -> None:
    async def play() -> list[PublicKey]:
        async with AsyncExitStack() as running:
            async with node(tmp_path, parts.AUTHORITY) as coordinator:
                gone = await coordinator.swarm.addresses()
                ada = node(tmp_path, parts.ADA, coordinator, admission=admission(parts.ADA))
                await (await running.enter_async_context(ada)).swarm.exchange_addresses(coordinator.key)
                book = coordinator.swarm.known_addresses()
            ben = await running.enter_async_context(node(tmp_path, parts.BEN, bootstrap=gone, book=book))
            assert await ben.swarm.exchange_addresses(parts.ADA.public)
            return [key for key, _ in ben.swarm.known_addresses().candidates(())]

    assert asyncio.run(asyncio.wait_for(play(), 90)) == [parts.ADA.public]
