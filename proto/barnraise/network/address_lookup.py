"""Asking a run's nodes where its coordinator is, by a program that is not a node."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from random import Random

from barnraise.core.ids import Millis, PublicKey
from barnraise.network.address_book import AddressBook, Node
from barnraise.network.address_protocol import AddressProtocol
from barnraise.network.daemon import Daemon
from barnraise.network.key_access import KeyAccess
from barnraise.network.peer_guard import PeerGuard
from barnraise.network.timing import TIMING, Timing

WAVES = 3
"""Those that are known first, and twice those whom they name."""
NODES_PER_WAVE = 16


async def look_up_addresses(
    book: AddressBook, nodes: Sequence[Node], clock: Callable[[], Millis], timing: Timing = TIMING
) -> int:
    """Ask `nodes` and the volunteers in `book`, and enter what they answer in it.

    Returns how many answered. Raises Unreachable where no libp2p daemon starts here.
    """
    daemon = await Daemon.start_asking(timing)
    guard = PeerGuard(KeyAccess(book.keys))
    protocol = AddressProtocol(book, clock, _nothing, lambda: None, lambda _: None, guard, Random(), timing)

    async def ask(peer: PublicKey, addresses: Sequence[str]) -> bool:
        return await daemon.dial(peer, addresses) is not None and await protocol.ask(peer, daemon.open_stream)

    answered, asked = 0, set[PublicKey]()
    try:
        wave = [*nodes, *book.candidates(key for key, _ in nodes)]
        for _ in range(WAVES):
            answered += sum(await asyncio.gather(*(ask(*node) for node in wave[:NODES_PER_WAVE])))
            asked |= {peer for peer, _ in wave[:NODES_PER_WAVE]}
            wave = book.candidates(asked)
    finally:
        await daemon.stop()
    return answered


async def _nothing() -> None:
    """The own contact of a program that is not a node."""
