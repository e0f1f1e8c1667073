"""Nodes send each other pages of contacts: one each way over a stream."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from random import Random

from barnraise.contract.contacts import Contact, ContactPage, open_page
from barnraise.contract.records import Head
from barnraise.core.errors import MalformedRecord, TrustError
from barnraise.core.ids import Millis, PublicKey
from barnraise.core.signed import Signed
from barnraise.network.address_book import AddressBook
from barnraise.network.message_streams import read_message, write_message
from barnraise.network.peer_guard import PeerGuard
from barnraise.network.stream_limits import StreamLimits, message_rates
from barnraise.network.streams import OpenStream, Stream, end_stream, until_stalled
from barnraise.network.timing import TIMING, Timing

log = logging.getLogger("barnraise.swarm")

ADDRESS_PROTOCOL = "barnraise/addresses/1"
"""Name of the libp2p protocol: four bytes of length and a page, each way."""
MAX_ASKING_BYTES = 2**15
"""The asker's page: its own contact and a head."""
MAX_ANSWER_BYTES = 2**17
"""A page of `address_book.OFFERED` contacts and a head."""


class AddressProtocol:
    """Asks other nodes for addresses, and answers them."""

    def __init__(
        self,
        book: AddressBook,
        clock: Callable[[], Millis],
        own: Callable[[], Awaitable[Signed[Contact] | None]],
        newest: Callable[[], Signed[Head] | None],
        learn: Callable[[Signed[Head]], None],
        guard: PeerGuard,
        random: Random,
        timing: Timing = TIMING,
    ) -> None:
        """own: this node's contact now. newest: the head that this node has otherwise. learn: takes a newer
        one.
        """
        self.book = book
        self._clock, self._own, self._newest, self._learn_head = clock, own, newest, learn
        self._random, self._timing = random, timing
        self._limits = StreamLimits(guard, message_rates())

    async def ask(self, peer: PublicKey, open_stream: OpenStream) -> bool:
        """Exchange pages with a peer. False where it does not answer, or not with a page."""
        try:
            stream = await until_stalled(open_stream(peer, ADDRESS_PROTOCOL), self._timing)
            try:
                await self._send(stream, await self._asking())
                page = await self._read(stream, MAX_ANSWER_BYTES)
            finally:
                end_stream(stream[1])
        except (OSError, EOFError, asyncio.TimeoutError, TrustError) as error:
            log.debug("no addresses from %s: %s %s", peer[:8], type(error).__name__, error)
            return False
        self._learn(page, peer)
        self.book.mark_answered(peer)
        return True

    async def serve(
        self, peer: PublicKey, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Answer a page with a page."""
        try:
            with self._limits.admitted(peer, writer) as stream:
                if stream is not None:
                    stream.set_idle(True)
                    page = await self._read((reader, writer), MAX_ASKING_BYTES)
                    if len(page.contacts) > 1:
                        raise MalformedRecord("an asker with contacts of others", fix="It is dropped.")
                    self._learn(page, peer)
                    self.update()
                    await self._send((reader, writer), self.book.offered(page, self._random.sample))
                    # The daemon drops what is under way when an end is closed: the asker closes first.
                    await until_stalled(reader.read(1), self._timing)
        except TrustError as error:
            log.debug("%s sent %s", peer, error.problem)
        except (OSError, EOFError, asyncio.TimeoutError) as error:
            log.debug("an address stream of %s ended early: %s", peer, error)
        finally:
            self._limits.end(writer)

    def update(self) -> None:
        """Enter this node's newest head into the book."""
        head = self._newest()
        if head is None:
            return
        try:
            self.book.learn_head(head)
        except TrustError as error:  # the log named another successor since the head was received
            log.debug("the newest head counts no longer: %s", error.problem)

    async def _asking(self) -> ContactPage:
        own = await self._own()
        self.update()
        return ContactPage(head=self.book.page(()).head, contacts=() if own is None else (own.text,))

    def _learn(self, page: ContactPage, peer: PublicKey) -> None:
        before = self.book.head
        if refused := self.book.learn(page, self._clock()):
            log.debug("%s sent %d records that are refused", peer, refused)
        if self.book.head is not None and self.book.head is not before:
            self._learn_head(self.book.head)

    async def _send(self, stream: Stream, page: ContactPage) -> None:
        await write_message(stream[1], page.model_dump_json().encode(), self._timing)

    async def _read(self, stream: Stream, limit: int) -> ContactPage:
        return open_page(await read_message(stream[0], limit, "a page of contacts", self._timing))
