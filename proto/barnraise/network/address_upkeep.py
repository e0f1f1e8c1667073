"""Keeps a node's address book new and saved, and searches for nodes that moved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from barnraise.contract.keys_in_force import KeysInForce
from barnraise.core.ids import PublicKey
from barnraise.network.address_book import AddressBook, Node
from barnraise.network.address_file import AddressFile
from barnraise.network.swarm import MAX_DIALS, Swarm


@dataclass
class AddressUpkeep:
    """The steps of upkeep; each program decides when to take them."""

    swarm: Swarm
    file: AddressFile
    own: PublicKey
    keys: KeysInForce
    random: Random = field(default_factory=Random)
    _dialled: Sequence[str] = ()
    """The coordinator's addresses that were dialled last."""
    _introduced: bool = False
    """Whether another node has our contact."""
    _met: set[PublicKey] = field(default_factory=set)

    @property
    def book(self) -> AddressBook:
        """With the newest head."""
        return self.swarm.known_addresses()

    async def follow_coordinator(self) -> None:
        """Dial the coordinator where its addresses changed."""
        head = self.book.head
        if head is not None and self.own != self.keys.coordinator and head.value.bootstrap != self._dialled:
            self._dialled = head.value.bootstrap
            await self.swarm.reconnect(head.value.bootstrap)

    @property
    def others(self) -> list[Node]:
        """The other volunteers that are known."""
        return self.book.candidates([self.own])

    async def exchange(self, present: Sequence[PublicKey]) -> None:
        """Exchange addresses: first with the coordinator, then with it or a node that is present.

        A node that is not reached may be known to the coordinator alone, which is asked in its place.
        """
        first = self.keys.coordinator
        others = [first, *present] if self._introduced else [first]
        peer = self.random.choice([key for key in others if key != self.own])
        answered = await self.swarm.exchange_addresses(peer)
        if not answered and peer != first:
            answered = await self.swarm.exchange_addresses(first)
        self._introduced |= answered

    async def search(self) -> int:
        """Dial the next known volunteers, and exchange addresses. Returns how many answered."""
        nodes = self.book.candidates([self.own, *self._met])[:MAX_DIALS]
        self._met = self._met | {peer for peer, _ in nodes} if nodes else set()
        return await self.swarm.meet(nodes)

    async def save(self) -> None:
        """Save what is new."""
        self.swarm.known_addresses()
        await self.file.save()
